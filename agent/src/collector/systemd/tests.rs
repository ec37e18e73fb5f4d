//! What the collector gives of a bus that the tests make.

use super::*;
use crate::metric::shown::{Tree, scrape};
use crate::source::dbus::fake::{FakeBus, Reply};

const UNITS: [(&str, &str, &str); 7] = [
    ("cron.service", "loaded", "active"),
    ("gone.service", "not-found", "inactive"),
    ("backup.timer", "loaded", "active"),
    ("ssh.socket", "loaded", "reloading"),
    ("mnt.mount", "loaded", "active"),
    ("broken.service", "loaded", "failed"),
    ("sda.device", "loaded", "active"),
];

fn units(reply: &mut Reply) {
    reply.array(8, |reply| {
        for (name, load, active) in UNITS {
            reply.structure(|reply| {
                [name, "What it is", load, active, "sub", "", &path(name)]
                    .iter()
                    .for_each(|text| reply.text(text));
                reply.number(0);
                ["", "/"].iter().for_each(|text| reply.text(text));
            });
        }
    });
}

/// As systemd escapes a name in a path.
fn path(name: &str) -> String {
    format!("/org/freedesktop/systemd1/unit/{}", name.replace('.', "_2e"))
}

fn bus() -> FakeBus {
    let interface = |name: &str| format!("org.freedesktop.systemd1.{name}");
    let number = |number: u32| move |reply: &mut Reply| reply.number(number);
    let long = |number: u64| move |reply: &mut Reply| reply.long(number);
    let text = |text: &'static str| move |reply: &mut Reply| reply.text(text);
    FakeBus::new()
        .property(PATH, MANAGER, "Version", "s", text("255.4-1ubuntu8"))
        .property(PATH, MANAGER, "Virtualization", "s", text(""))
        .property(PATH, MANAGER, "SystemState", "s", text("degraded"))
        .method(PATH, MANAGER, "ListUnits", "a(ssssssouso)", units)
        .property(&path("cron.service"), &interface("Service"), "Type", "s", text("simple"))
        .property(&path("cron.service"), &interface("Service"), "NRestarts", "u", number(2))
        .property(&path("cron.service"), &interface("Service"), "TasksCurrent", "t", long(3))
        .property(&path("cron.service"), &interface("Service"), "TasksMax", "t", long(u64::MAX))
        .property(
            &path("cron.service"),
            &interface("Unit"),
            "ActiveEnterTimestamp",
            "t",
            long(1_700_000_000_500_000),
        )
        .property(&path("backup.timer"), &interface("Timer"), "LastTriggerUSec", "t", long(1_500_000))
        .property(&path("ssh.socket"), &interface("Socket"), "NAccepted", "u", number(7))
        .property(&path("ssh.socket"), &interface("Socket"), "NConnections", "u", number(1))
        .property(&path("mnt.mount"), &interface("Mount"), "Type", "s", text("nfs4"))
}

fn check(socket: &str, options: &[(&str, &str)]) -> Vec<String> {
    let tree = Tree::new(&[]);
    let served = bus().listen(&tree.path().join(socket));
    let mut running = tree.start(&COLLECTOR, options);
    let (lines, result) = scrape(&COLLECTOR, running.as_mut());
    result.unwrap();
    served.join().unwrap();
    lines.iter().map(|line| line.strip_prefix("node_systemd_").unwrap().to_owned()).collect()
}

const BUS: &str = "run/dbus/system_bus_socket";

#[test]
fn units_are_chosen_by_their_whole_name_and_summed_up_all() {
    let lines = check(BUS, &[]);
    let ones: Vec<_> = lines.iter().filter(|line| !line.ends_with(" 0")).collect();
    let expected = [
        r#"unit_state{name="cron.service",state="active",type="simple"} 1"#,
        r#"unit_state{name="backup.timer",state="active",type=""} 1"#,
        r#"unit_state{name="broken.service",state="failed",type=""} 1"#,
        r#"units{state="active"} 4"#,
        r#"units{state="inactive"} 1"#,
        r#"units{state="failed"} 1"#,
        r#"units{state="reloading"} 1"#,
        r#"timer_last_trigger_seconds{name="backup.timer"} 1.5"#,
        r#"socket_accepted_connections_total{name="ssh.socket"} 7"#,
        r#"socket_current_connections{name="ssh.socket"} 1"#,
        r#"version{version="255.4-1ubuntu8"} 255.4"#,
        r#"virtualization_info{virtualization_type="none"} 1"#,
    ];
    assert_eq!(ones, expected.iter().collect::<Vec<_>>());
    let zeros = lines.iter().filter(|line| line.starts_with("unit_state{") && line.ends_with(" 0")).count();
    assert_eq!(zeros, 4 * 5 - 3);
    assert!(lines.contains(&"system_running 0".to_owned()));
}

#[test]
fn what_costs_more_is_asked_for_on_request_and_over_either_socket() {
    let options = [
        ("unitInclude", "cron.*|mnt[.]mount"),
        ("unitExclude", ""),
        ("private", "true"),
        ("enableTaskMetrics", "true"),
        ("enableRestartsMetrics", "true"),
        ("enableStartTimeMetrics", "true"),
    ];
    let lines = check("run/systemd/private", &options);
    for line in [
        r#"unit_state{name="mnt.mount",state="active",type="nfs4"} 1"#,
        r#"unit_tasks_current{name="cron.service"} 3"#,
        r#"unit_start_time_seconds{name="cron.service"} 1700000000.5"#,
        r#"service_restart_total{name="cron.service"} 2"#,
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} in {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("unit_tasks_max")), "there is no limit");
}

#[test]
fn a_machine_without_systemd_has_none() {
    let tree = Tree::new(&[]);
    let (lines, result) = scrape(&COLLECTOR, tree.start(&COLLECTOR, &[]).as_mut());
    assert!(lines.is_empty() && matches!(result, Err(CollectError::Absent(_))));
}

#[test]
fn a_version_is_the_first_number_of_three_digits() {
    let versions = ["252.22-1~deb12u1", "v256-rc1", "255", "systemd 1.2 249.1", "12", ""];
    assert_eq!(versions.map(version_number), [252.22, 256.0, 255.0, 249.1, 0.0, 0.0]);
}
