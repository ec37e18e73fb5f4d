//! Families to text, by format, beside copying the same bytes; and packing the text as Prometheus asks for it.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::io::Write as _;

use agent::expose::text::Format;
use agent::scrape::Part;
use benches::measure::{alone, pair, text};
use benches::synthetic::{Node, everything};
use flate2::Compression;
use flate2::write::GzEncoder;

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
    let mut text_of_all = Vec::new();
    scraper.expose(Format::Text, &mut text_of_all);
    let mut packed = Vec::new();
    let gzip = alone(50, || {
        packed.clear();
        let mut encoder = GzEncoder::new(&mut packed, Compression::fast());
        // Writing to memory does not fail.
        let _ = encoder.write_all(&text_of_all).and_then(|()| encoder.try_finish());
    });
    println!("gzip: {} to {} bytes: {}", text_of_all.len(), packed.len(), text(gzip.cpu));
    Ok(())
}
