//! What of the text format is read, and what is refused.

use super::*;

/// What a text comes to: `name kind help`, then its series.
fn check(text: &str, expected: &str) {
    let mut found = String::new();
    for family in parse(text.as_bytes()).unwrap() {
        let help = family.help.as_deref().unwrap_or("-");
        found += &format!("{} {} {help:?}\n", family.name, family.kind.word());
        for (labels, suffix, value) in family.series() {
            found += &format!("  {}{{{}}} {value}\n", suffix.text(), String::from_utf8_lossy(labels));
        }
    }
    assert_eq!(found, expected);
}

fn refuse(text: impl AsRef<[u8]>, what: &str) {
    let error = parse(text.as_ref()).unwrap_err();
    assert!(error.contains(what), "{error}, not {what}");
}

#[test]
fn names_labels_values_and_comments_are_read() {
    check(
        "# a comment\n#HELP a A\\\\ \\n\\\"text\\\" \n#\tTYPE  a Gauge\n\n a 1\nb{ x = \"1\" , y=\"\\\\\\\"\\n\", }2e3\nb{}\t-Inf\n# HELP c none\n# TYPE d\n  ",
        "a gauge \"A\\\\ \\n\\\"text\\\" \"\n  {} 1\nb untyped \"-\"\n  {x=\"1\",y=\"\\\\\\\"\\n\"} 2000\n  {x=\"\",y=\"\"} -inf\n",
    );
    check("a:b_1 nan\n", "a:b_1 untyped \"-\"\n  {} NaN\n");
    check("", "");
    check("# HELP a \na 0\n", "a untyped \"-\"\n  {} 0\n");
}

#[test]
fn labels_that_a_series_lacks_are_there_empty() {
    check(
        "a{x=\"1\"} 1\na{y=\"2\"} 2\na 3\n",
        "a untyped \"-\"\n  {x=\"1\",y=\"\"} 1\n  {x=\"\",y=\"2\"} 2\n  {x=\"\",y=\"\"} 3\n",
    );
}

#[test]
fn summaries_and_histograms_are_one_for_each_set_of_labels() {
    check(
        "# TYPE s summary\ns{quantile=\"0.9\",x=\"b\"} 2\ns{quantile=\"0.50\",x=\"b\"} 1\ns_sum{x=\"a\"} 7\ns_count{x=\"b\"} 3\n",
        "s summary \"-\"\n  _sum{x=\"a\"} 7\n  _count{x=\"a\"} 0\n  {x=\"b\",quantile=\"0.5\"} 1\n  {x=\"b\",quantile=\"0.9\"} 2\n  _sum{x=\"b\"} 0\n  _count{x=\"b\"} 3\n",
    );
    check(
        "# TYPE h histogram\nh_bucket{le=\"1000000\"} 2\nh_bucket{le=\"1\"} 1\nh_sum 9\nh_count 4\n",
        "h histogram \"-\"\n  _bucket{le=\"1\"} 1\n  _bucket{le=\"1e+06\"} 2\n  _bucket{le=\"+Inf\"} 4\n  _sum{} 9\n  _count{} 4\n",
    );
    check("s_count 1\n", "s_count untyped \"-\"\n  {} 1\n");
}

#[test]
fn a_bad_line_is_named_and_spoils_the_whole_text() {
    refuse("a 1\nb\n", "line 2: `` is not a number");
    refuse("a 1", "line 1: ends without a newline");
    refuse("a 1\n# HELP b", "line 2: ends without a newline");
    refuse("1a 1\n", "`1a` is no name");
    refuse("{\"a\"} 1\n", "no name");
    refuse("a 1 1441205977284\n", "timestamps are not taken");
    refuse("a 1 \n", "something follows");
    refuse("a 1\r\n", "is not a number");
    refuse("a 1e999\n", "is not a number");
    refuse("a -nan\n", "is not a number");
    refuse("a{x=\"1\" 1\n", "neither a comma nor a brace");
    refuse("a{x=\"1} 1\n", "no closing quote");
    refuse("a{x=1} 1\n", "not in quotes");
    refuse("a{x} 1\n", "no `=`");
    refuse("a{,} 1\n", "without a name");
    refuse("a{", "ends without");
    refuse("a{x=\"\\t\"} 1\n", "`\\t` stands for nothing");
    refuse("a{x=\"1\",x=\"2\"} 1\n", "`x` is there twice");
    refuse("a{__name__=\"b\"} 1\n", "Prometheus' own");
    refuse(b"a{x=\"\xff\"} 1\n", "not UTF-8");
    refuse("a{x=\"1\"} 1\na{x=\"1\"} 2\n", "a{x=\"1\"} is there twice");
    refuse("a 1\na{x=\"\"} 2\n", "is there twice");
    refuse("# HELP a-b c\n", "no metric can have");
    refuse("# HELP a b\n# HELP a b\n", "a second HELP of a");
    refuse("# HELP a \\b\n", "stands for nothing");
    refuse("# HELP a \\\n", "a backslash at the end");
    refuse("# TYPE a gauge\n# TYPE a gauge\n", "a second TYPE");
    refuse("a 1\n# TYPE a gauge\n", "a second TYPE of a, or one after its samples");
    refuse("# TYPE a gaugehistogram\n", "no type of metric");
    refuse("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n", "le=\"x\" is not a number");
    refuse("# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 2\n", "is there twice");
    refuse("# TYPE h histogram\nh_bucket{le=\"1\"} -1\n", "line 2: a histogram counts nothing below zero");
    refuse("# TYPE s summary\ns_sum 1\ns_sum 1\n", "line 3: s_sum{} is there twice");
}

#[test]
fn no_beginning_of_a_text_makes_trouble() {
    let text = b"# HELP h \\\\x\n# TYPE h histogram\nh_bucket{a=\"\\\"\xc3\xa9\",le=\"1\"} 1\nh_sum{a=\"\"} NaN\n\xff\x00";
    for end in 0..text.len() {
        // Whether it is one or not, it is answered.
        let _ = parse(&text[..end]);
    }
}
