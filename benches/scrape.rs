//! A whole scrape of synthetic nodes, beside the floor: bare reads of the same files.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use agent::expose::text::Format;
use agent::scrape::Part;
use benches::measure::{pair, text};
use benches::synthetic::{Node, everything};

fn main() -> anyhow::Result<()> {
    for pods in [10, 100, 250] {
        let node = Node::new(pods)?;
        let mut scraper = node.scraper(everything())?;
        let mut out = Vec::new();
        scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
        let files =
            scraper.files().into_iter().filter_map(|(file, each_time)| each_time.then(|| File::open(file)));
        let files: Vec<File> = files.collect::<Result<_, _>>()?;
        let mut buffer = vec![0; 64 << 10];
        let (scrape, floor, ratio) = pair(
            100,
            || {
                out.clear();
                scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
            },
            || {
                for file in &files {
                    let _ = file.read_at(&mut buffer, 0);
                }
            },
        );
        println!(
            "scrape of {pods} pods: {}, floor of {} files: {}, ratio {ratio:.2}",
            text(scrape.cpu),
            files.len(),
            text(floor.cpu)
        );
    }
    Ok(())
}
