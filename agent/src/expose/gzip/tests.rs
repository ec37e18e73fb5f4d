//! What was packed comes out as it went in.

use std::io::Read as _;

use flate2::read::GzDecoder;

use super::*;
use crate::metric::Samples;

#[track_caller]
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut text).unwrap();
    text
}

/// Packs what is written, and compares it with the same written plainly.
#[track_caller]
fn check(gzip: &mut Gzip, write: impl Fn(&mut dyn FnMut(Piece<'_>))) -> f64 {
    let mut plain = Vec::new();
    gzip.begin(b"before".to_vec());
    write(&mut |piece| match piece {
        Piece::Rows(number) => gzip.set_rows(number),
        Piece::Text(text) => {
            gzip.text().extend_from_slice(text);
            plain.extend_from_slice(text);
        }
        Piece::Line(line) => {
            gzip.line(line);
            plain.line(line);
        }
    });
    let packed = gzip.finish();
    assert!(packed.starts_with(b"before"));
    let text = unpacked(&packed[6..]);
    let same = text.iter().zip(&plain).take_while(|(a, b)| a == b).count();
    let around = |text: &[u8]| {
        String::from_utf8_lossy(&text[same.saturating_sub(80)..text.len().min(same + 80)]).into_owned()
    };
    assert!(text == plain, "from {same} on: {:?} instead of {:?}", around(&text), around(&plain));
    plain.len() as f64 / packed.len() as f64
}

enum Piece<'a> {
    Rows(u64),
    Text(&'a [u8]),
    Line(&'a Line<'a>),
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(length).collect()
}

#[test]
fn any_text_comes_out_as_it_went_in() {
    let gzip = &mut Gzip::default();
    let lines = b"node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 12345.67\n".repeat(10_000);
    let long = b"a".repeat(3 * FARTHEST);
    for text in [&b""[..], b"a", b"a 1\n", &noise(300_000), &lines, &long, b"abcabcabcabc", b"a 1\n"] {
        check(gzip, |write| write(Piece::Text(text)));
    }
    for length in 250..270 {
        check(gzip, |write| write(Piece::Text(&b"x".repeat(length))));
    }
}

#[test]
fn a_text_in_parts_comes_out_whole() {
    let all = noise(400_000);
    for part in [1000, FARTHEST, SLACK + FARTHEST + 1] {
        check(&mut Gzip::default(), |write| {
            for text in all.chunks(part) {
                write(Piece::Text(b"# HELP a b\n"));
                write(Piece::Text(text));
            }
        });
    }
}

fn row(pod: usize, container: Option<usize>, more: usize) -> Vec<u8> {
    let id = |n: usize| {
        format!("{:032x}", (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834))
    };
    let (name, below) =
        container.map_or(Default::default(), |c| (id(c).repeat(2), format!("/{}", id(c).repeat(2))));
    let container = container.map_or("", |_| "main");
    format!(
        r#"container="{container}",id="/kubepods/burstable/pod{}{below}",image="",name="{name}",namespace="default",pod="many-{}",label_more="{}""#,
        id(pod),
        &id(pod)[..10],
        "m".repeat(more)
    )
    .into_bytes()
}

/// Families of which each has a third of the rows less than the one before, with labels and without.
fn exposition(rows: &[Vec<u8>], number: u64, write: &mut dyn FnMut(super::tests::Piece<'_>)) {
    let mut samples = Samples::new(1);
    let mut labels = samples.writer(0, &[true]);
    let sets = ["rx", "tx"].map(|device| labels.labels(&[("device", device), ("interface", "eth0")]));
    write(Piece::Rows(number));
    for family in 0..12usize {
        let name = format!("container_family_{family}_bytes_total");
        write(Piece::Text(format!("# HELP {name} What it is.\n# TYPE {name} counter\n").as_bytes()));
        for (slot, row) in rows.iter().enumerate().filter(|(slot, _)| family < 4 || slot % family != 0) {
            let of_row = |same_labels, value| {
                let labels = samples.labels(same_labels);
                let row = Some((slot, &row[..]));
                Line { name: &name, suffix: Suffix::None, row, labels, same_labels, value }
            };
            let value = if family % 2 == 0 { 0.0 } else { (slot * family) as f64 / 7.0 };
            write(Piece::Line(&of_row(if family == 3 { sets[slot % 2] } else { Labels::NONE }, value)));
            if family == 5 {
                sets.iter().for_each(|set| write(Piece::Line(&of_row(*set, value))));
            }
        }
        let (labels, same_labels) = (samples.labels(sets[0]), sets[0]);
        let of_node =
            Line { name: "node_x", suffix: Suffix::Sum, row: None, labels, same_labels, value: 1e300 };
        write(Piece::Line(&of_node));
    }
}

#[test]
fn rows_come_out_as_they_went_in_whatever_there_is_of_them() {
    let gzip = &mut Gzip::default();
    for (number, more) in [0, 0, 300, 20_000, 40_000, 200_000, 0].into_iter().enumerate() {
        let count = if more > 10_000 { 6 } else { 300 };
        let rows: Vec<_> = (0..count)
            .map(|n| row(n / 3, (n % 3 != 0).then_some(n), if n % 4 == 1 { more } else { 0 }))
            .collect();
        let ratio = check(gzip, |write| exposition(&rows, number as u64, write));
        assert!(ratio > 4.0, "packed only to 1/{ratio:.1} with {more} more");
        check(gzip, |write| exposition(&rows, number as u64, write));
    }
}

#[test]
fn rows_that_share_nothing_come_out_too() {
    let rows: Vec<_> = noise(40_000).chunks(77).map(|bytes| bytes.to_vec()).collect();
    check(&mut Gzip::default(), |write| exposition(&rows, 1, write));
}
