//! Threads that come, go and cannot be read.

use std::collections::BTreeMap;

use super::{IS, Machine, WEB};

#[test]
fn threads_count_by_their_names_and_the_switches_of_all_are_those_of_their_process() {
    let mut machine = Machine::new(&[]);
    let write = |machine: &Machine, task: &str, comm: &str, threads: u32, cpu: u64, switches: u64| {
        let stat = format!("2 ({comm}) S 1 0 0 0 -1 0 0 0 0 0 {cpu} 0 0 0 20 0 {threads} 0 100 4096 1 0\n");
        let status = format!(
            "Uid:\t0\t0\t0\t0\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t0\n"
        );
        machine.tree.write(&format!("proc/2{task}/stat"), stat.as_bytes());
        machine.tree.write(&format!("proc/2{task}/status"), status.as_bytes());
    };
    machine.set(2, IS);
    write(&machine, "", "web", 2, 500, 10);
    write(&machine, "/task/2", "web", 2, 300, 10);
    write(&machine, "/task/3", "io", 2, 200, 20);
    let (web, io) = (r#"groupname="web",threadname="web""#, r#"groupname="web",threadname="io""#);
    machine.check("thread_count", &[(web, 1.0), (io, 1.0)]);
    write(&machine, "", "web", 3, 900, 11);
    write(&machine, "/task/2", "web", 3, 400, 11);
    write(&machine, "/task/3", "io", 3, 400, 23);
    write(&machine, "/task/4", "io", 3, 100, 5);
    let of = |values: BTreeMap<String, f64>, labels: &str| values[labels];
    assert_eq!(of(machine.values("thread_cpu_seconds_total"), &format!(r#"{io},mode="user""#)), 3.0);
    // They have begun to count now, so nothing is added by looking again.
    let voluntary = |labels: &str| format!(r#"{labels},ctxswitchtype="voluntary""#);
    assert_eq!(of(machine.values("thread_context_switches_total"), &voluntary(io)), 8.0);
    assert_eq!(of(machine.values("context_switches_total"), &voluntary(WEB)), 9.0);
    std::fs::remove_dir_all(machine.tree.path().join("proc/2/task/3")).unwrap();
    machine.check("thread_count", &[(web, 1.0), (io, 1.0)]);
    assert_eq!(of(machine.values("context_switches_total"), &voluntary(WEB)), 9.0);
}

/// Writes a thread of the process 2, or the whole of it where the number is 0; it has this many.
fn thread(machine: &Machine, tid: u32, comm: &str, threads: u32, cpu: u64) {
    let task = if tid == 0 { String::new() } else { format!("/task/{tid}") };
    let stat = format!("2 ({comm}) S 1 0 0 0 -1 0 0 0 0 0 {cpu} 0 0 0 20 0 {threads} 0 100 4096 1 0\n");
    machine.tree.write(&format!("proc/2{task}/stat"), stat.as_bytes());
}

const THREAD_SECONDS: &str = "thread_cpu_seconds_total";
const WEB_THREAD: &str = r#"groupname="web",threadname="web",mode="user""#;

#[test]
fn a_first_thread_that_is_the_only_one_for_a_while_does_not_count_its_life_again() {
    let mut machine = Machine::new(&[]);
    machine.set(2, IS);
    machine.set(5, IS);
    // The other process keeps the name of the threads.
    for tid in [5, 6] {
        let stat = "5 (web) S 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 100 4096 1 0\n";
        machine.tree.write(&format!("proc/5/task/{tid}/stat"), stat.as_bytes());
        machine.tree.write("proc/5/stat", stat.as_bytes());
    }
    machine.text();
    for start in [200, 300] {
        thread(&machine, 0, "web", 2, 500);
        thread(&machine, 2, "web", 2, 500);
        let stat = format!("3 (io) S 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 {start} 4096 1 0\n");
        machine.tree.write("proc/2/task/3/stat", stat.as_bytes());
        assert_eq!(machine.values(THREAD_SECONDS)[WEB_THREAD], 0.0);
        thread(&machine, 0, "web", 1, 500);
        std::fs::remove_dir_all(machine.tree.path().join("proc/2/task/3")).unwrap();
        machine.text();
    }
}

#[test]
fn threads_that_could_not_be_read_once_go_on_from_what_they_had_counted() {
    let mut machine = Machine::new(&[]);
    machine.set(2, IS);
    let write = |machine: &Machine, cpu: u64| {
        thread(machine, 0, "web", 2, cpu);
        thread(machine, 2, "web", 2, cpu);
        thread(machine, 3, "io", 2, 0);
    };
    write(&machine, 500);
    machine.text();
    write(&machine, 600);
    let seconds = |machine: &mut Machine| machine.values(THREAD_SECONDS)[WEB_THREAD];
    assert_eq!(seconds(&mut machine), 1.0);
    let (task, aside) = (machine.tree.path().join("proc/2/task"), machine.tree.path().join("aside"));
    std::fs::rename(&task, &aside).unwrap();
    std::fs::write(&task, "").unwrap();
    assert_eq!(seconds(&mut machine), 1.0, "the list of them");
    std::fs::remove_file(&task).unwrap();
    std::fs::rename(&aside, &task).unwrap();
    machine.tree.write("proc/2/task/2/stat", b"nonsense\n");
    assert_eq!(seconds(&mut machine), 1.0, "one of them");
    write(&machine, 700);
    assert_eq!(seconds(&mut machine), 2.0);
}

#[test]
fn threads_of_which_there_was_no_list_at_first_have_not_begun_since() {
    let mut machine = Machine::new(&[]);
    machine.set(2, IS);
    thread(&machine, 0, "web", 2, 500);
    machine.tree.write("proc/2/task", b"");
    machine.text();
    std::fs::remove_file(machine.tree.path().join("proc/2/task")).unwrap();
    thread(&machine, 2, "web", 2, 500);
    thread(&machine, 3, "web", 2, 500);
    assert_eq!(machine.values(THREAD_SECONDS)[WEB_THREAD], 0.0);
}
