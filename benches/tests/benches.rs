//! What holds of the cost whatever the machine: how many allocations a scrape makes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use agent::expose::text::Format;
use agent::scrape::Part;
use benches::synthetic::{Node, everything};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Allocations of one scrape in steady state.
fn allocations(pods: usize) -> u64 {
    let node = Node::new(pods).unwrap();
    let mut scraper = node.scraper(everything()).unwrap();
    let mut out = Vec::new();
    for _ in 0..3 {
        out.clear();
        scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
    }
    let before = dhat::HeapStats::get().total_blocks;
    out.clear();
    scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
    dhat::HeapStats::get().total_blocks - before
}

#[test]
fn a_scrape_allocates_nothing_per_series_in_steady_state() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let (few, many) = (allocations(5), allocations(50));
    assert_eq!(few, many, "ten times the pods take more allocations");
    assert!(few < 200, "{few} allocations in a scrape, whatever the number of pods");
}
