//! A whole scrape of synthetic nodes, where all pods work and where all stand still, beside bare reads of all files.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use agent::expose::text::Format;
use agent::scrape::Part;
use benches::measure::{pair, pair_after, settle, text};
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
        let mut scrape = || {
            out.clear();
            scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
        };
        let mut buffer = vec![0; 64 << 10];
        let mut floor = || {
            for file in &files {
                let _ = file.read_at(&mut buffer, 0);
            }
        };
        let mut clock = node.clock()?;
        settle(&mut scrape);
        let still = pair(100, &mut scrape, &mut floor);
        let mut advanced = Ok(());
        let advance = || advanced = clock.advance();
        let working = pair_after(100, advance, &mut scrape, &mut floor);
        advanced?;
        for (what, (scrape, floor, ratio)) in [("working", working), ("still", still)] {
            println!(
                "scrape of {pods} pods, {what}: {}, floor of {} files: {}, ratio {ratio:.2}",
                text(scrape.cpu),
                files.len(),
                text(floor.cpu)
            );
        }
    }
    Ok(())
}
