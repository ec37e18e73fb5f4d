//! What kubelet and cgroups tell, in the orders in which they do, and what it comes to.

use super::*;
use crate::source::kubelet::PodContainer;

/// What becomes known.
enum Word<'a> {
    /// The kubelet's containers: name, id, whether it was killed. Of a name the one that runs comes first.
    Told(&'a [(&'a str, &'a str, bool)]),
    /// The cgroup of a container counts so many.
    Counted(&'a str, &'a str, u64),
    /// The cgroup of the pod counts so many, when a scrape has read all.
    InPod(u64),
    /// A scrape has read all.
    Read,
}
use Word::*;

fn pod(containers: &[(&str, &str, bool)]) -> Pod {
    let container = |(name, id, was_oom_killed): &(&str, &str, bool)| PodContainer {
        id: (*id).to_owned(),
        name: (*name).to_owned(),
        was_oom_killed: *was_oom_killed,
        ..PodContainer::default()
    };
    let containers: Vec<_> = containers.iter().map(container).collect();
    let has_one_container = containers.iter().all(|it| it.name == "main");
    Pod { uid: "u".to_owned(), has_one_container, containers, ..Pod::default() }
}

/// After each word the kills of `main`, of `side` and of the pod; none of them ever falls.
#[track_caller]
fn check(steps: &[(Word<'_>, [u64; 3])]) {
    let mut kills = PodKills::default();
    for (i, (word, expected)) in steps.iter().enumerate() {
        match word {
            Told(containers) => kills.told(&pod(containers), Timestamp::UNIX_EPOCH),
            Counted(name, id, count) => {
                let at = kills.containers.iter().position(|c| c.name == *name).unwrap();
                kills.counted(Some((at, id)), *count);
            }
            InPod(count) => {
                kills.counted(None, *count);
                kills.share();
            }
            Read => kills.share(),
        }
        let of =
            |name: &str| kills.containers.iter().find(|c| c.name == name).map_or(0, ContainerKills::kills);
        assert_eq!([of("main"), of("side"), kills.kills()], *expected, "after step {i}");
    }
}

#[test]
fn a_kill_that_only_the_kubelet_tells_of_counts_once_however_often_it_is_told() {
    check(&[
        (Told(&[("main", "a", false)]), [0, 0, 0]),
        (Told(&[("main", "a", true)]), [1, 0, 1]),
        (Told(&[("main", "b", false), ("main", "a", true)]), [1, 0, 1]),
        (Told(&[("main", "c", false), ("main", "b", true)]), [2, 0, 2]),
        (Told(&[("main", "d", false), ("main", "c", false)]), [2, 0, 2]),
    ]);
}

#[test]
fn a_kill_that_both_tell_of_counts_once_whoever_is_first() {
    check(&[
        (Told(&[("main", "a", false)]), [0, 0, 0]),
        (Counted("main", "a", 1), [1, 0, 1]),
        (Told(&[("main", "b", false), ("main", "a", true)]), [1, 0, 1]),
        (Told(&[("main", "b", true)]), [2, 0, 2]),
        (Counted("main", "b", 1), [2, 0, 2]),
        (InPod(2), [2, 0, 2]),
    ]);
}

#[test]
fn processes_that_are_killed_while_their_container_lives_count_each() {
    check(&[
        (Told(&[("main", "a", false), ("side", "s", false)]), [0, 0, 0]),
        (Counted("main", "a", 2), [2, 0, 2]),
        (Counted("main", "a", 5), [5, 0, 5]),
        // `memory.oom.group` ends all at once, and the kubelet tells of one.
        (Told(&[("main", "b", false), ("main", "a", true), ("side", "s", false)]), [5, 0, 5]),
        (Counted("side", "s", 1), [5, 1, 6]),
    ]);
}

#[test]
fn what_the_pod_counts_beyond_its_containers_is_the_pods_alone() {
    check(&[
        (Told(&[("main", "a", false), ("side", "s", false)]), [0, 0, 0]),
        (InPod(0), [0, 0, 0]),
        (InPod(1), [0, 0, 1]),
        (Told(&[("main", "a", false), ("side", "t", false), ("side", "s", true)]), [0, 1, 1]),
    ]);
}

#[test]
fn an_agent_that_starts_late_has_what_is_still_told() {
    check(&[(Told(&[("main", "f", false), ("main", "e", true)]), [1, 0, 1]), (InPod(5), [5, 0, 5])]);
    let two = [("main", "b", false), ("main", "a", true), ("side", "s", false)];
    check(&[(Told(&two), [1, 0, 1]), (InPod(5), [1, 0, 5]), (Read, [1, 0, 5])]);
    check(&[(Told(&[("main", "a", false)]), [0, 0, 0]), (Read, [0, 0, 0])]);
}

#[test]
fn what_the_pod_of_one_container_counts_is_not_added_to_what_is_told_later() {
    check(&[
        (Told(&[("main", "a", false)]), [0, 0, 0]),
        (InPod(6), [6, 0, 6]),
        // Which is one of the six.
        (Told(&[("main", "b", false), ("main", "a", true)]), [6, 0, 6]),
        (InPod(7), [7, 0, 7]),
        (Told(&[("main", "b", true)]), [7, 0, 7]),
    ]);
}

#[test]
fn a_second_container_takes_nothing_from_the_first() {
    check(&[
        (Told(&[("main", "a", false)]), [0, 0, 0]),
        (InPod(3), [3, 0, 3]),
        // As `kubectl debug` adds one.
        (Told(&[("main", "a", false), ("side", "s", false)]), [3, 0, 3]),
        (InPod(4), [3, 0, 4]),
        (Told(&[("main", "a", false), ("side", "s", true)]), [3, 1, 4]),
    ]);
}

#[test]
fn processes_that_end_together_are_killed_once() {
    assert_eq!(kills(b"oom 5\noom_kill 10\noom_group_kill 5\n"), Some(5));
    assert_eq!(kills(b"oom 5\noom_kill 7\noom_group_kill 0\n"), Some(7));
    assert_eq!(kills(b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
    assert_eq!(kills(b"low 0\n"), None);
}

#[test]
fn a_kubelet_that_tells_again_of_what_it_had_forgotten_adds_nothing() {
    check(&[
        (Told(&[("main", "b", false), ("main", "a", true)]), [1, 0, 1]),
        (Told(&[]), [1, 0, 1]),
        (Told(&[("main", "b", false), ("main", "a", true)]), [1, 0, 1]),
    ]);
}

#[test]
fn a_crash_loop_is_remembered_in_bounded_space() {
    let mut kills = PodKills::default();
    for i in 0..1000 {
        let (now, before) = (format!("c{}", i + 1), format!("c{i}"));
        kills.told(&pod(&[("main", &now, false), ("main", &before, true)]), Timestamp::UNIX_EPOCH);
    }
    assert_eq!((kills.kills(), kills.containers[0].ids.len()), (1000, REMEMBERED));
}

#[test]
fn a_row_of_a_pod_that_is_new_begins_at_0_for_all_who_scrape_and_any_other_with_what_it_has() {
    let (first, began) = (Instant::now(), Timestamp::from_second(1000).unwrap());
    for (started, expected) in [
        (Some(1001), [0, 0, 2, 2]),
        // Told in whole seconds, so that it may have been there before.
        (Some(1000), [2, 2, 2, 2]),
        (None, [2, 2, 2, 2]),
    ] {
        let mut kills = PodKills::default();
        let started = started.map(|second| Timestamp::from_second(second).unwrap());
        kills.told(&Pod { started, ..pod(&[]) }, began);
        let given = [0, 59, 60, 61].map(|after| {
            let now = first + Duration::from_secs(after);
            kills.row.given(2, kills.is_new, now)
        });
        assert_eq!(given, expected, "{started:?}");
    }
}
