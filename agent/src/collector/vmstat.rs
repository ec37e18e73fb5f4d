//! Counters of the machine's virtual memory.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{Fields, Kind, Labels, NamedDesc, Suffix, Writer};
use crate::source::file::NodeFile;
use crate::source::text::{float, label, lines, number, whole_lines, words};

/// `vmstat`
pub(super) const COLLECTOR: Collector = Collector {
    name: "vmstat",
    enabled_by_default: true,
    families: &[],
    named: &[NamedDesc { prefix: "node_vmstat_", help: "A field of `/proc/vmstat`." }],
    options: &[OptionDesc::new(
        "fields",
        OptionKind::Regex,
        "^(oom_kill|pgpg|pswp|pg.*fault).*",
        "Fields to give.",
    )],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let pattern = options.regex(&COLLECTOR, "fields");
            let help = |key: &str| format!("/proc/vmstat information field {key}.");
            Box::new(Vmstat {
                file: NodeFile::in_short_records(paths.procfs.join("vmstat")),
                fields: Fields::new("node_vmstat_", pattern, help),
            })
        },
        can_block: false,
    },
};

struct Vmstat {
    file: NodeFile,
    fields: Fields,
}

impl NodeCollector for Vmstat {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let (text, is_whole) = whole_lines(self.file.read()?);
        let mut fault = (!is_whole).then(|| "ends in the middle".to_owned());
        for (place, line) in lines(text).enumerate() {
            let mut words = words(line);
            let key = words.next().unwrap_or_default();
            let Some((name, help)) = self.fields.get(place, &[key]) else { continue };
            // Gauges among them, such as `nr_free_pages`, may be negative for a moment.
            let value = words.next().and_then(|word| number(word).map(|n| n as f64).or_else(|| float(word)));
            match value.filter(|value| value.is_finite()) {
                Some(value) => {
                    let family = out.named(name, Kind::Untyped, help);
                    out.add(family, Labels::NONE, Suffix::None, value);
                }
                None => fault = Some(format!("`{}` is not a field with a number", label(line))),
            }
        }
        fault.map_or(Ok(()), |what| Err(CollectError::parse(self.file.path(), what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const TEXT: &str = "nr_free_pages 977769\npgpgin 7344136\npgmajfault x\noom_kill 0\nnr_neg -3\npswpin 12";

    #[test]
    fn fields_are_those_that_are_asked_for_and_a_cut_number_is_none() {
        let (lines, result) = gives(&COLLECTOR, &[("proc/vmstat", TEXT)], &[]);
        assert_eq!(lines, ["node_vmstat_pgpgin 7344136", "node_vmstat_oom_kill 0"]);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        let (lines, _) = gives(&COLLECTOR, &[("proc/vmstat", TEXT)], &[("fields", "^nr_")]);
        assert_eq!(lines, ["node_vmstat_nr_free_pages 977769", "node_vmstat_nr_neg -3"]);
    }
}
