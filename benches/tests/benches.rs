//! What holds of the cost whatever the machine: how many allocations a scrape makes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use agent::expose::Gzip;
use agent::expose::text::Format;
use agent::scrape::Part;
use benches::synthetic::{Node, everything};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Allocations of one scrape in steady state, as text and packed.
fn allocations(pods: usize) -> u64 {
    let node = Node::new(pods).unwrap();
    let mut scraper = node.scraper(everything()).unwrap();
    let (mut out, mut packed, mut gzip) = (Vec::new(), Vec::new(), Gzip::default());
    let mut scrape = || {
        out.clear();
        packed.clear();
        let before = dhat::HeapStats::get().total_blocks;
        scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
        gzip.begin(std::mem::take(&mut packed));
        scraper.scrape(Part::Cadvisor, Format::Text, &mut gzip);
        packed = gzip.finish();
        dhat::HeapStats::get().total_blocks - before
    };
    (0..3).for_each(|_| _ = scrape());
    scrape()
}

#[test]
fn a_scrape_allocates_nothing_per_series_in_steady_state() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let (few, many) = (allocations(5), allocations(50));
    assert_eq!(few, many, "ten times the pods take more allocations");
    assert!(few < 400, "{few} allocations in two scrapes, whatever the number of pods");
}
