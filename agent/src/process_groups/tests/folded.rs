//! Groups that are folded, by themselves and with what has the name of the fold.

use super::{IS, Is, Machine, PROCS, SECONDS};

#[test]
fn a_program_that_is_called_like_the_fold_is_in_it_and_counts_once() {
    let mut machine = Machine::new(&[("topOutsidePods", "1")]);
    machine.text();
    let other = Is { comm: "_other", cpu: 100, pages: 100, ..IS };
    machine.set(2, other);
    machine.set(3, Is { comm: "big", pages: 9, cpu: 300, ..IS });
    let (fold, big) = (r#"groupname="_other""#, r#"groupname="big""#);
    // The only place is not the fold's, however large it is.
    machine.check(PROCS, &[(fold, 1.0), (big, 1.0)]);
    machine.set(4, Is { comm: "low", pages: 1, cpu: 500, ..IS });
    machine.check(PROCS, &[(fold, 2.0), (big, 1.0)]);
    let user = format!(r#"{fold},mode="user""#);
    assert_eq!(machine.values(SECONDS)[&user], 6.0);
    machine.set(2, Is { cpu: 200, ..other });
    assert_eq!(machine.values(SECONDS)[&user], 7.0);
}

#[test]
fn a_program_that_is_called_like_the_fold_has_its_own_group_in_its_container() {
    let one = "1".repeat(64);
    let mut machine = Machine::new(&[]);
    machine.cgroup("a", &one);
    machine.tell(&[("a", "shop-1", &[(&one, "main")])]);
    let cgroup = format!("0::/kubepods/poda/{one}\n");
    machine.set(2, Is { comm: "_other", cgroup: &cgroup, ..IS });
    machine.check(PROCS, &[(r#"container="main",namespace="shop",pod="shop-1",groupname="_other""#, 1.0)]);
}

#[test]
fn threads_of_a_group_that_becomes_whole_again_count_from_then_on() {
    let mut machine = Machine::new(&[("topOutsidePods", "1")]);
    let write = |machine: &Machine, pages: u64, cpu: u64| {
        for (task, cpu) in [("", cpu), ("/task/2", cpu), ("/task/3", 0)] {
            let stat = format!("2 (web) S 1 0 0 0 -1 0 0 0 0 0 {cpu} 0 0 0 20 0 2 0 100 4096 {pages} 0\n");
            machine.tree.write(&format!("proc/2{task}/stat"), stat.as_bytes());
        }
    };
    let other = |pages: u64| Is { comm: "job", pages, ..IS };
    machine.set(2, IS);
    write(&machine, 10, 100);
    machine.set(9, other(1));
    machine.text();
    write(&machine, 10, 200);
    let thread = r#"groupname="web",threadname="web",mode="user""#;
    let seconds = |machine: &mut Machine| machine.values("thread_cpu_seconds_total").get(thread).copied();
    assert_eq!(seconds(&mut machine), Some(1.0));
    // Folded, and so what it counts is the fold's.
    write(&machine, 10, 500);
    machine.set(9, other(30));
    assert_eq!(seconds(&mut machine), None);
    write(&machine, 100, 700);
    assert_eq!(seconds(&mut machine), Some(2.0));
    assert_eq!(machine.values(SECONDS)[r#"groupname="web",mode="user""#], 2.0);
}
