//! What this build makes of a policy: taken, taken in part, or not at all.

use protocol::{FamilySelector, Finding, Outcome, Policy, PolicyContent};

use crate::collector::{COLLECTORS, Collector, Options, find, not_here};

/// The words for what can be wrong, as they become reasons of conditions.
mod reason {
    pub(super) const UNKNOWN_COLLECTOR: &str = "UnknownCollector";
    pub(super) const UNKNOWN_OPTION: &str = "UnknownOption";
    pub(super) const UNKNOWN_FAMILY: &str = "UnknownFamily";
    pub(super) const INVALID_OPTION: &str = "InvalidOption";
    pub(super) const INVALID_PATTERN: &str = "InvalidPattern";
    pub(super) const INVALID_SCOPE: &str = "InvalidScope";
}

/// What one policy comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Whether it is taken.
    pub outcome: Outcome,
    /// Why not, or what was skipped.
    pub findings: Vec<Finding>,
}

/// Judges one policy by itself; the first thing that cannot be done rejects it whole.
///
/// What this build does not know is skipped with a warning: during an upgrade agents of two versions get the same
/// policy.
pub fn judge(policy: &Policy) -> Judgement {
    let content = &policy.content;
    let mut warnings = Vec::new();
    match scope(content)
        .and_then(|()| collectors(content, &mut warnings))
        .and_then(|()| patterns(content, &mut warnings))
    {
        Err(finding) => Judgement { outcome: Outcome::Rejected, findings: vec![finding] },
        Ok(()) if warnings.is_empty() => Judgement { outcome: Outcome::Accepted, findings: warnings },
        Ok(()) => Judgement { outcome: Outcome::AcceptedWithWarnings, findings: warnings },
    }
}

fn scope(content: &PolicyContent) -> Result<(), Finding> {
    if content.is_pod_scoped() && !content.collectors.is_empty() {
        let message = "collectors are the node's and cannot be set together with a namespace or pod selector";
        return Err(finding("collectors", reason::INVALID_SCOPE, message));
    }
    Ok(())
}

fn collectors(content: &PolicyContent, warnings: &mut Vec<Finding>) -> Result<(), Finding> {
    for (i, setting) in content.collectors.iter().enumerate() {
        let field = format!("collectors[{i}]");
        let Some(collector) = find(&setting.name) else {
            let message = match not_here(&setting.name) {
                Some(why) => format!("{why}; it is skipped"),
                None => format!("this agent has no collector `{}`; it is skipped", setting.name),
            };
            warnings.push(finding(format!("{field}.name"), reason::UNKNOWN_COLLECTOR, message));
            continue;
        };
        for (key, value) in &setting.options {
            let field = format!("{field}.options.{key}");
            match collector.options.iter().find(|o| o.key == key) {
                Some(option) => option.kind.check(value).map_err(|what| {
                    finding(field, reason::INVALID_OPTION, format!("collector `{}`: {what}", collector.name))
                })?,
                None => {
                    let message =
                        format!("collector `{}` has no option `{key}`; {}", collector.name, known(collector));
                    warnings.push(finding(field, reason::UNKNOWN_OPTION, message));
                }
            }
        }
        for (one, other) in collector.exclusive {
            let set = |key: &str| setting.options.get(key).is_some_and(|v| !v.is_empty());
            if set(one) && set(other) {
                let message =
                    format!("collector `{}`: only one of `{one}` and `{other}` can be set", collector.name);
                return Err(finding(format!("{field}.options"), reason::INVALID_OPTION, message));
            }
        }
        collector.check(&Options(setting.options.clone())).map_err(|what| {
            let message = format!("collector `{}`: {what}", collector.name);
            finding(format!("{field}.options"), reason::INVALID_OPTION, message)
        })?;
    }
    Ok(())
}

fn known(collector: &Collector) -> String {
    if collector.options.is_empty() {
        return "it has none".to_owned();
    }
    let keys: Vec<_> = collector.options.iter().map(|o| o.key).collect();
    format!("it has {}", keys.join(", "))
}

fn patterns(content: &PolicyContent, warnings: &mut Vec<Finding>) -> Result<(), Finding> {
    for (list, patterns) in [("include", &content.metrics.include), ("exclude", &content.metrics.exclude)] {
        for (i, text) in patterns.iter().enumerate() {
            let field = format!("metrics.{list}[{i}]");
            let pattern = FamilySelector::pattern(text).map_err(|error| {
                finding(
                    &field,
                    reason::INVALID_PATTERN,
                    format!("`{text}` is not a regular expression: {error}"),
                )
            })?;
            let declared = COLLECTORS.iter().flat_map(|c| c.families).any(|f| pattern.is_match(f.name));
            let named = COLLECTORS.iter().flat_map(|c| c.named).any(|n| may_begin_with(text, n.prefix));
            if !declared && !named {
                let message = format!("`{text}` matches no family that this agent has");
                warnings.push(finding(&field, reason::UNKNOWN_FAMILY, message));
            }
        }
    }
    Ok(())
}

/// Whether a pattern may match a name that begins like this, as far as its text shows before its first special character.
fn may_begin_with(pattern: &str, prefix: &str) -> bool {
    let end = pattern.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let plain = &pattern[..end.unwrap_or(pattern.len())];
    // The last character may be optional.
    let plain = if end.is_some() { &plain[..plain.len().saturating_sub(1)] } else { plain };
    !prefix.is_empty() && (plain.starts_with(prefix) || prefix.starts_with(plain))
}

fn finding(field: impl Into<String>, reason: &str, message: impl Into<String>) -> Finding {
    Finding { field: field.into(), reason: reason.to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use protocol::{CollectorSetting, MetricSelection};

    use super::*;

    fn check(content: PolicyContent, outcome: Outcome, expected: &[(&str, &str)]) {
        let judgement = judge(&Policy::new("p", 0, content));
        let found: Vec<_> =
            judgement.findings.iter().map(|f| (f.field.as_str(), f.reason.as_str())).collect();
        assert_eq!((judgement.outcome, found.as_slice()), (outcome, expected), "{judgement:?}");
    }

    fn with_collector(name: &str, options: &[(&str, &str)]) -> PolicyContent {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let setting = CollectorSetting { name: name.to_owned(), enabled: None, options };
        PolicyContent { collectors: vec![setting], ..PolicyContent::default() }
    }

    fn with_metrics(include: &[&str], exclude: &[&str]) -> PolicyContent {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let metrics = MetricSelection { profile: None, include: owned(include), exclude: owned(exclude) };
        PolicyContent { metrics, ..PolicyContent::default() }
    }

    #[test]
    fn what_this_build_does_not_know_is_skipped_with_a_warning() {
        use Outcome::AcceptedWithWarnings;
        check(
            with_collector("warp", &[]),
            AcceptedWithWarnings,
            &[("collectors[0].name", "UnknownCollector")],
        );
        let unknown_option = [("collectors[0].options.color", "UnknownOption")];
        check(with_collector("filesystem", &[("color", "red")]), AcceptedWithWarnings, &unknown_option);
        let unknown_family = [("metrics.exclude[0]", "UnknownFamily")];
        check(with_metrics(&["node_load.*"], &["warp_.*"]), AcceptedWithWarnings, &unknown_family);
    }

    #[test]
    fn a_collector_of_node_exporter_that_is_left_out_is_skipped_with_the_reason() {
        let policy = Policy::new("a", 0, with_collector("ntp", &[]));
        let message = &judge(&policy).findings[0].message;
        assert!(message.contains("`ntp` of node_exporter") && message.contains("timex"), "{message}");
    }

    #[test]
    fn what_cannot_be_done_is_rejected_with_its_field() {
        use Outcome::Rejected;
        let bad = with_collector("filesystem", &[("mountPointsExclude", "(")]);
        check(bad, Rejected, &[("collectors[0].options.mountPointsExclude", "InvalidOption")]);
        let both = with_collector("filesystem", &[("mountPointsExclude", "a"), ("mountPointsInclude", "b")]);
        check(both, Rejected, &[("collectors[0].options", "InvalidOption")]);
        check(with_metrics(&["a", "("], &[]), Rejected, &[("metrics.include[1]", "InvalidPattern")]);
        let mut scoped = with_collector("cpu", &[]);
        scoped.namespace_selector = Some("team=web".to_owned());
        check(scoped, Rejected, &[("collectors", "InvalidScope")]);
    }

    #[test]
    fn a_name_that_shows_command_lines_is_rejected_until_the_policy_says_so() {
        let config = ("config", "process_names: [{exe: [java]}]");
        let options = [("collectors[0].options", "InvalidOption")];
        check(with_collector("process_groups", &[config]), Outcome::Rejected, &options);
        let said = [config, ("exposeCommandLines", "true")];
        check(with_collector("process_groups", &said), Outcome::Accepted, &[]);
        let broken = [("collectors[0].options.redact", "InvalidOption")];
        check(with_collector("process_groups", &[("redact", "a\n(")]), Outcome::Rejected, &broken);
    }

    #[test]
    fn a_family_that_is_named_by_what_is_read_may_be_there() {
        let found = ["node_hwmon_temp_celsius", "node_hw.*", "(node|container)_.*", "node_hwmon?"];
        assert!(found.iter().all(|pattern| may_begin_with(pattern, "node_hwmon_")));
        assert!(!may_begin_with("warp_.*", "node_hwmon_") && !may_begin_with("node_load1", "node_hwmon_"));
        assert!(!may_begin_with("node_hwmon_.*", ""), "what may have any name says nothing");
    }

    #[test]
    fn a_policy_that_says_nothing_is_accepted() {
        check(PolicyContent::default(), Outcome::Accepted, &[]);
    }
}
