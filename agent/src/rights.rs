//! What this process may do, and what policies ask for in vain where it may not.

use std::path::Path;

use protocol::{Finding, Outcome, Policy, Verdicts};

use crate::collector::find;
use crate::source::file::read_once;
use crate::source::process::effective_capabilities;

/// How to get the rights that [`may_trace`] speaks of.
pub const HOW_TO_TRACE: &str = "it needs root with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: set \
                                `agent.processes.privileged` to true in the chart's values";
/// What becomes the reason of a condition.
const NOT_PERMITTED: &str = "NotPermitted";

/// Whether this program may look into every process of the machine: CAP_SYS_PTRACE for most, and CAP_DAC_READ_SEARCH
/// for files of other users (in-kernel numbers, capabilities(7)).
pub fn may_trace() -> bool {
    const NEEDED: u64 = (1 << 19) | (1 << 2);
    let mut text = Vec::new();
    read_once(Path::new("/proc/self/status"), &mut text).is_ok()
        && effective_capabilities(&text).is_some_and(|bits| bits & NEEDED == NEEDED)
}

/// Adds a warning to each verdict on a policy that switches on what only who may trace can do.
pub fn warn(verdicts: &mut Verdicts, policies: &[Policy]) {
    for verdict in verdicts.policies.iter_mut().filter(|it| it.outcome != Outcome::Rejected) {
        let policy = policies.iter().find(|policy| policy.name == verdict.policy);
        let found: Vec<_> = policy.into_iter().flat_map(in_vain).collect();
        if !found.is_empty() {
            verdict.outcome = Outcome::AcceptedWithWarnings;
            verdict.findings.extend(found);
        }
    }
}

fn in_vain(policy: &Policy) -> impl Iterator<Item = Finding> {
    let settings = policy.content.collectors.iter().enumerate();
    let settings = settings.filter(|(_, setting)| setting.enabled != Some(false));
    settings.flat_map(|(i, setting)| {
        let options = find(&setting.name).map_or(&[][..], |collector| collector.options);
        let is_on = |key: &str| setting.options.get(key).is_some_and(|value| value == "true");
        options.iter().filter(move |option| option.is_privileged && is_on(option.key)).map(move |option| {
            Finding {
                field: format!("collectors[{i}].options.{}", option.key),
                reason: NOT_PERMITTED.to_owned(),
                message: format!("collector `{}`: {HOW_TO_TRACE}; it is skipped", setting.name),
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use protocol::{CollectorSetting, PolicyContent, Verdict};

    use super::*;
    use crate::judge::judge;

    #[test]
    fn an_option_that_needs_rights_is_a_warning_that_says_which() {
        let check = |enabled: Option<bool>, value: &str, outcome: Outcome, expected: &[&str]| {
            let options = [("smaps".to_owned(), value.to_owned())].into();
            let setting = CollectorSetting { name: "process_groups".to_owned(), enabled, options };
            let content = PolicyContent { collectors: vec![setting], ..PolicyContent::default() };
            let policy = Policy::new("p", 0, content);
            let judged = judge(&policy);
            let verdict = Verdict {
                policy: policy.name.clone(),
                revision: policy.revision.clone(),
                outcome: judged.outcome,
                findings: judged.findings,
                in_force: policy.revision.clone(),
            };
            let mut verdicts = Verdicts { policies: vec![verdict], ..Verdicts::default() };
            warn(&mut verdicts, std::slice::from_ref(&policy));
            let verdict = &verdicts.policies[0];
            let fields: Vec<_> = verdict.findings.iter().map(|f| f.field.as_str()).collect();
            assert_eq!((verdict.outcome, fields.as_slice()), (outcome, expected), "{verdict:?}");
            verdict.findings.first().map(|finding| finding.message.clone()).unwrap_or_default()
        };
        let field = ["collectors[0].options.smaps"];
        let message = check(Some(true), "true", Outcome::AcceptedWithWarnings, &field);
        assert!(message.contains("CAP_SYS_PTRACE") && message.contains("agent.processes.privileged"));
        check(Some(true), "false", Outcome::Accepted, &[]);
        check(Some(false), "true", Outcome::Accepted, &[]);
        check(Some(true), "yes", Outcome::Rejected, &field);
    }
}
