//! How many processes and threads there are, in which states, and how many there may be.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::process::{ProcessFiles, Task, TaskFile, Unread, stat};
use crate::source::text::only_number;

/// `processes`
pub(super) const COLLECTOR: Collector = Collector {
    name: "processes",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Counts {
                files: ProcessFiles::new(&paths.procfs),
                pids: Vec::new(),
                tids: Vec::new(),
                limits: [
                    (F::MaxThreads, NodeFile::whole(paths.procfs.join("sys/kernel/threads-max"))),
                    (F::MaxPids, NodeFile::whole(paths.procfs.join("sys/kernel/pid_max"))),
                ],
            })
        },
        can_block: false,
    },
};

families! {
    Threads Gauge "node_processes_threads" "Allocated threads in system.";
    MaxThreads Gauge "node_processes_max_threads" "Limit of threads in the system.";
    ThreadState Gauge "node_processes_threads_state" "Number of threads in each state.";
    State Gauge "node_processes_state" "Number of processes in each state.";
    Pids Gauge "node_processes_pids" "Number of PIDs.";
    MaxPids Gauge "node_processes_max_processes" "Number of max PIDs limit.";
}

struct Counts {
    files: ProcessFiles,
    pids: Vec<u32>,
    tids: Vec<u32>,
    limits: [(F, NodeFile); 2],
}

impl NodeCollector for Counts {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut result = Ok(());
        for (family, file) in &mut self.limits {
            let limit = file.read().map(only_number).map_err(CollectError::from);
            match limit
                .and_then(|limit| limit.ok_or_else(|| CollectError::parse(file.path(), "not a number")))
            {
                Ok(limit) => out.node(*family, Labels::NONE, limit as f64),
                Err(error) => result = result.and(Err(error)),
            }
        }
        if out.wants_any([F::Threads, F::ThreadState, F::State, F::Pids]) {
            // A part of them would be a wrong count.
            result = result.and(self.count(out));
        }
        result
    }
}

impl Counts {
    fn count(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Counts { files, pids: all, tids, .. } = self;
        let (mut pids, mut threads) = (0, 0);
        let mut process_states = [0; 256];
        let mut thread_states = [0; 256];
        files.processes(all)?;
        for pid in &*all {
            let process = files.parsed(Task::Process(*pid), TaskFile::Stat, stat);
            let Some(process) = unless_gone(process)? else { continue };
            pids += 1;
            threads += process.threads;
            process_states[usize::from(process.state)] += 1;
            if process.threads == 1 {
                thread_states[usize::from(process.state)] += 1;
                continue;
            }
            if unless_gone(files.threads(*pid, tids))?.is_none() {
                continue;
            }
            for tid in &*tids {
                let state = match tid == pid {
                    true => Some(process.state),
                    false => unless_gone(files.parsed(Task::Thread(*pid, *tid), TaskFile::Stat, stat))?
                        .map(|thread| thread.state),
                };
                state.into_iter().for_each(|state| thread_states[usize::from(state)] += 1);
            }
        }
        out.node(F::Pids, Labels::NONE, f64::from(pids));
        out.node(F::Threads, Labels::NONE, threads as f64);
        states(out, F::State, "state", &process_states);
        states(out, F::ThreadState, "thread_state", &thread_states);
        Ok(())
    }
}

fn states(out: &mut Writer<'_>, family: F, name: &str, counts: &[u32; 256]) {
    for (state, count) in (0..=u8::MAX).zip(counts).filter(|(_, count)| **count > 0) {
        let labels = out.labels(&[(name, char::from(state).encode_utf8(&mut [0; 4]))]);
        out.node(family, labels, f64::from(*count));
    }
}

/// What was read; nothing of what has ended meanwhile.
fn unless_gone<T>(read: Result<T, Unread>) -> Result<Option<T>, Unread> {
    match read {
        Err(Unread::Gone) => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const LIMITS: [(&str, &str); 2] =
        [("proc/sys/kernel/threads-max", "99\n"), ("proc/sys/kernel/pid_max", "4194304\n")];

    fn stat(state: char, threads: u32) -> String {
        format!("1 (a b) {state} 0 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 {threads} 0 100 4096 1 0\n")
    }

    #[test]
    fn threads_and_processes_are_counted_by_state() {
        let (one, three) = (stat('S', 1), stat('D', 3));
        let mut files =
            vec![("proc/1/stat", one.as_str()), ("proc/20/stat", &three), ("proc/20/task/20/stat", "")];
        files.extend([
            ("proc/20/task/21/stat", one.as_str()),
            ("proc/20/task/22/comm", ""),
            ("proc/self/stat", ""),
        ]);
        files.extend([("proc/30/cgroup", "")]);
        files.extend(LIMITS);
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        result.unwrap();
        let expected = [
            "threads 4",
            "max_threads 99",
            r#"threads_state{thread_state="D"} 1"#,
            r#"threads_state{thread_state="S"} 2"#,
            r#"state{state="D"} 1"#,
            r#"state{state="S"} 1"#,
            "pids 2",
            "max_processes 4194304",
        ];
        assert_eq!(lines, expected.map(|line| format!("node_processes_{line}")));
    }

    #[test]
    fn a_process_that_cannot_be_read_leaves_the_limits_and_no_count() {
        let files = [("proc/1/stat", "1 (a) S 0"), LIMITS[0], LIMITS[1]];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert_eq!(lines, ["node_processes_max_threads 99", "node_processes_max_processes 4194304"]);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
