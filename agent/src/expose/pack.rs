//! Texts as gzip, the tables for it kept from one to the next: to make them anew costs as much as a small text does.

use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, FlushCompress, Status};

/// Packs one text after the other; two at once each have tables.
#[derive(Debug, Default)]
pub(super) struct Packer(Mutex<Option<Compress>>);

impl Packer {
    /// The largest window that there is, as every decoder takes it (RFC 1951).
    const WINDOW: u8 = 15;

    /// Appends the packed text.
    pub(super) fn pack(&self, text: &[u8], out: &mut Vec<u8>) {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut compress =
            kept().take().unwrap_or_else(|| Compress::new_gzip(Compression::fast(), Self::WINDOW));
        compress.reset();
        loop {
            // An exposition becomes a fifth or less.
            out.reserve((text.len() / 4).max(4096));
            let done = compress.total_in() as usize;
            match compress.compress_vec(&text[done..], out, FlushCompress::Finish) {
                Ok(Status::Ok | Status::BufError) => {}
                // There is no error but that of a stream that has ended.
                Ok(Status::StreamEnd) | Err(_) => break,
            }
        }
        *kept() = Some(compress);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn every_text_comes_out_as_it_went_in() {
        let packer = Packer::default();
        let noise: Vec<u8> =
            (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let lines = b"node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 12345.67\n".repeat(10_000);
        for text in [&b"a 1\n"[..], &noise, b"", &lines, b"a 1\n"] {
            let mut packed = b"before".to_vec();
            packer.pack(text, &mut packed);
            let mut unpacked = Vec::new();
            GzDecoder::new(&packed[6..]).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == text, "{} bytes became {}", text.len(), unpacked.len());
        }
    }
}
