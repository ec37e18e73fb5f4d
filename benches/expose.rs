//! Families to text, by format, beside copying the same bytes.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use agent::expose::text::Format;
use agent::scrape::Part;
use benches::measure::{pair, text};
use benches::synthetic::{Node, everything};

fn main() -> anyhow::Result<()> {
    let node = Node::new(100)?;
    let mut scraper = node.scraper(everything())?;
    scraper.gather(Part::Cadvisor);
    for format in [Format::Text, Format::OpenMetrics] {
        let mut out = Vec::new();
        scraper.expose(format, &mut out);
        let (whole, mut copy) = (out.clone(), Vec::with_capacity(out.len()));
        let (expose, floor, ratio) = pair(
            200,
            || {
                out.clear();
                scraper.expose(format, &mut out);
            },
            || {
                copy.clear();
                copy.extend_from_slice(&whole);
                std::hint::black_box(&copy);
            },
        );
        let series = scraper.samples().len();
        println!(
            "{format:?}: {series} series, {} bytes: {}, {:.0} ns a series; a copy of the bytes {}, ratio {ratio:.1}",
            whole.len(),
            text(expose.cpu),
            expose.cpu.as_nanos() as f64 / series as f64,
            text(floor.cpu)
        );
    }
    Ok(())
}
