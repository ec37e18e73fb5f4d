//! Families to text, by format, beside copying the same bytes; and packing the text as Prometheus asks for it.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::io::Write as _;

use agent::expose::Gzip;
use agent::expose::text::Format;
use agent::scrape::Part;
use benches::measure::{pair, text};
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
    let (mut ours, mut theirs, mut gzip) = (Vec::new(), Vec::new(), Gzip::default());
    let (packed, zlib, ratio) = pair(
        50,
        || {
            ours.clear();
            gzip.begin(std::mem::take(&mut ours));
            scraper.expose(Format::Text, &mut gzip);
            ours = gzip.finish();
        },
        || {
            theirs.clear();
            text_of_all.clear();
            scraper.expose(Format::Text, &mut text_of_all);
            let mut encoder = GzEncoder::new(&mut theirs, Compression::fast());
            // Writing to memory does not fail.
            let _ = encoder.write_all(&text_of_all).and_then(|()| encoder.try_finish());
        },
    );
    println!(
        "written as gzip: {} to {} bytes: {}; written, then packed by zlib: to {} bytes: {}, ratio {ratio:.2}",
        text_of_all.len(),
        ours.len(),
        text(packed.cpu),
        theirs.len(),
        text(zlib.cpu)
    );
    Ok(())
}
