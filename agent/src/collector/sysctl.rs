//! Kernel settings that are chosen by name, as numbers or as text.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{Kind, Labels, Named, NamedDesc, Suffix, Writer, families};
use crate::source::Paths;
use crate::source::file::NodeFile;
use crate::source::text::{label, push_name};
use std::path::Path;

/// `sysctl`
pub(super) const COLLECTOR: Collector = Collector {
    name: "sysctl",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[NamedDesc {
        prefix: PREFIX,
        help: "The setting of this name; where it has several values, each by its index or by the key given for it.",
    }],
    options: &[
        OptionDesc::new(
            "include",
            OptionKind::Lines,
            "",
            "Settings to give as numbers, as NAME or NAME:KEY,KEY… for the names of several values.",
        ),
        OptionDesc::new("includeInfo", OptionKind::Lines, "", "Settings to give as text."),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let of = |key, is_number| {
                options.lines(&COLLECTOR, key).map(move |line| Setting::new(paths, line, is_number))
            };
            Box::new(Sysctl(of("include", true).chain(of("includeInfo", false)).collect()))
        },
        can_block: false,
    },
};

const PREFIX: &str = "node_sysctl_";

families! {
    Info Gauge "node_sysctl_info" "Settings that are text; the value is always 1.";
}

struct Sysctl(Vec<Setting>);

struct Setting {
    name: String,
    has_keys: bool,
    /// That of the name, or one for each key.
    families: Vec<Family>,
    is_number: bool,
    file: NodeFile,
    /// Why it cannot be right here.
    refusal: Option<&'static str>,
}

impl Setting {
    fn new(paths: &Paths, line: &str, is_number: bool) -> Self {
        let (name, keys) = line.split_once(':').map_or((line, None), |(name, keys)| (name, Some(keys)));
        let path = name.replace('.', "/");
        // What begins with a slash would replace the folder.
        let file = NodeFile::whole(paths.procfs.join("sys").join(path.trim_start_matches('/')));
        let families = match keys {
            None => vec![Family::new(name, None)],
            Some(keys) => keys.split(',').enumerate().map(|key| Family::new(name, Some(key))).collect(),
        };
        let refusal = refusal(paths, path.trim_start_matches('/'));
        Setting { name: name.to_owned(), has_keys: keys.is_some(), families, is_number, file, refusal }
    }

    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Setting { name, has_keys, families, is_number, file, refusal } = self;
        if let Some(why) = refusal {
            return Err(CollectError::Absent(format!("{name}: {why}")));
        }
        let given = families.len();
        let mut give = |text: &str| match (text.split_whitespace().count(), &families[..]) {
            (0, _) => Err("has no value".to_owned()),
            (_, _) if !*has_keys && !*is_number => {
                give_as_text(out, name, text);
                Ok(())
            }
            (count, [family]) if !*has_keys => give(out, family, text, count),
            _ if !*is_number => Err("text has an index and no keys".to_owned()),
            (count, _) if count != given || count == 1 => Err(format!("has {count} values, not {given}")),
            _ => give_by_key(out, families, text),
        };
        let result = give(&label(file.read()?));
        result.map_err(|what| CollectError::parse(file.path(), what))
    }
}

struct Family {
    name: String,
    help: String,
}

impl Family {
    /// That of a setting, or of one of its values by index and key.
    fn new(setting: &str, key: Option<(usize, &str)>) -> Self {
        let mut name = PREFIX.to_owned();
        push_name(&mut name, setting);
        let mut help = format!("Sysctl {setting}.");
        if let Some((index, key)) = key {
            name.push('_');
            push_name(&mut name, key);
            help = format!("Sysctl {setting}, field {index}.");
        }
        Family { name, help }
    }

    fn of(&self, out: &mut Writer<'_>) -> Named {
        out.named(&self.name, Kind::Untyped, &self.help)
    }
}

impl NodeCollector for Sysctl {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut result = Ok(());
        for setting in &mut self.0 {
            let collected = setting.collect(out);
            result = result.and(collected);
        }
        result
    }
}

/// Settings that are those of the reader's own namespaces, whichever procfs they are read in, are not the machine's in a
/// pod (namespaces(7); kernel/utsname_sysctl.c, ipc/ipc_sysctl.c).
fn refusal(paths: &Paths, path: &str) -> Option<&'static str> {
    let begins = |parts: &[&str]| parts.iter().any(|part| path.starts_with(part));
    if paths.is_recorded() {
        return None;
    }
    if begins(&["net/", "kernel/hostname", "kernel/domainname"]) && !paths.is_own_network() {
        return Some("is that of the agent's own network; it takes hostNetwork");
    }
    let of_ipc = ["kernel/msg", "kernel/sem", "kernel/shm", "kernel/auto_msgmni", "fs/mqueue/"];
    if begins(&of_ipc) && paths.procfs != Path::new("/proc") {
        return Some("is that of the agent's own IPC namespace");
    }
    None
}

fn give_as_text(out: &mut Writer<'_>, name: &str, text: &str) {
    let named = out.labels(&[("name", name)]);
    for (index, value) in text.split_whitespace().enumerate() {
        let labels = out.with(named, "value", value);
        let labels = out.with(labels, "index", itoa::Buffer::new().format(index));
        out.node(F::Info, labels, 1.0);
    }
}

fn give(out: &mut Writer<'_>, family: &Family, text: &str, count: usize) -> Result<(), String> {
    let mut result = Ok(());
    let family = family.of(out);
    for (index, value) in text.split_whitespace().enumerate() {
        let labels = match count {
            1 => Labels::NONE,
            _ => out.labels(&[("index", itoa::Buffer::new().format(index))]),
        };
        match integer(value) {
            Some(value) => out.add(family, labels, Suffix::None, value as f64),
            None => result = Err(format!("`{value}` is not a number")),
        }
    }
    result
}

fn give_by_key(out: &mut Writer<'_>, families: &[Family], text: &str) -> Result<(), String> {
    let mut result = Ok(());
    for (value, family) in text.split_whitespace().zip(families) {
        let Some(value) = integer(value) else {
            result = Err(format!("`{value}` is not a number"));
            continue;
        };
        let family = family.of(out);
        out.add(family, Labels::NONE, Suffix::None, value as f64);
    }
    result
}

/// A number that may be negative or, as the kernel writes some, begin with `0x` or `0`.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    digits.starts_with(|c: char| c.is_ascii_hexdigit()).then_some(())?;
    i64::from_str_radix(digits, radix).ok().map(|n| sign * n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const FILES: [(&str, &str); 4] = [
        ("proc/sys/kernel/threads-max", "7801\n"),
        ("proc/sys/fs/file-nr", "1024\t0\t1631329\n"),
        ("proc/sys/kernel/seccomp/actions_avail", "kill trap\n"),
        ("proc/sys/vm/empty", "\n"),
    ];

    fn check(options: &[(&str, &str)], expected: &[&str]) -> Result<(), CollectError> {
        let (lines, result) = gives(&COLLECTOR, &FILES, options);
        let expected: Vec<_> = expected.iter().map(|line| format!("{PREFIX}{line}")).collect();
        assert_eq!(lines, expected);
        result
    }

    #[test]
    fn one_value_has_no_label_and_several_an_index_or_keys() {
        let include = "kernel.threads-max\nfs.file-nr\nfs.file-nr:total,current-use,max\n/fs.file-nr";
        let info = "kernel.seccomp.actions_avail";
        let expected = [
            r#"info{name="kernel.seccomp.actions_avail",value="kill",index="0"} 1"#,
            r#"info{name="kernel.seccomp.actions_avail",value="trap",index="1"} 1"#,
            "kernel_threads_max 7801",
            r#"fs_file_nr{index="0"} 1024"#,
            r#"fs_file_nr{index="1"} 0"#,
            r#"fs_file_nr{index="2"} 1631329"#,
            "fs_file_nr_total 1024",
            "fs_file_nr_current_use 0",
            "fs_file_nr_max 1631329",
            r#"_fs_file_nr{index="0"} 1024"#,
            r#"_fs_file_nr{index="1"} 0"#,
            r#"_fs_file_nr{index="2"} 1631329"#,
        ];
        check(&[("include", include), ("includeInfo", info)], &expected).unwrap();
    }

    #[test]
    fn what_does_not_fit_costs_itself() {
        for wrong in
            ["no.such", "vm.empty", "kernel.seccomp.actions_avail", "kernel.threads-max:a", "fs.file-nr:a"]
        {
            let include = format!("{wrong}\nkernel.threads-max");
            check(&[("include", &include)], &["kernel_threads_max 7801"]).unwrap_err();
        }
        check(&[("includeInfo", "fs.file-nr:a,b,c")], &[]).unwrap_err();
    }

    #[test]
    fn numbers_are_written_in_several_ways() {
        let all = ["-1", "0", "010", "0x1f", "9223372036854775807"].map(integer);
        assert_eq!(all, [Some(-1), Some(0), Some(8), Some(31), Some(i64::MAX)]);
        assert_eq!(["", "-", "+1", "0x", "--1", "1 2", "9223372036854775808"].map(integer), [None; 7]);
    }
}
