//! The sessions of people who are logged in, by seat, kind and class.

use std::path::{Path, PathBuf};

use super::systemd::failed;
use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::dbus::{Buffers, Bus, BusError, List, Method, Property, Value};

/// `logind`
pub(super) const COLLECTOR: Collector = Collector {
    name: "logind",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node { start: |paths, _| Box::new(Logind::new(&paths.rootfs)), can_block: true },
};

families! {
    Sessions Gauge "node_logind_sessions" "Number of sessions registered in logind.";
}

const SERVICE: &str = "org.freedesktop.login1";
const MANAGER: Method<'_> = Method {
    service: SERVICE,
    path: "/org/freedesktop/login1",
    interface: "org.freedesktop.login1.Manager",
    member: "",
};

// sd_session_get_type(3), sd_session_get_class(3); what a later version has is the first.
const TYPES: [&str; 7] = ["other", "unspecified", "tty", "x11", "wayland", "mir", "web"];
const CLASSES: [&str; 5] = ["other", "user", "greeter", "lock-screen", "background"];
const REMOTE: [&str; 2] = ["true", "false"];

struct Logind {
    socket: PathBuf,
    buffers: Buffers,
    seats: List<1>,
    /// Seat and path.
    sessions: List<2>,
    /// How many there are of each combination: of all seats of the first class, of all seats of the second, and so on.
    counts: Vec<u32>,
}

impl Logind {
    fn new(rootfs: &Path) -> Self {
        Logind {
            socket: rootfs.join("run/dbus/system_bus_socket"),
            buffers: Buffers::default(),
            seats: List::default(),
            sessions: List::default(),
            counts: Vec::new(),
        }
    }

    fn give(&mut self, out: &mut Writer<'_>) -> Result<(), BusError> {
        let Logind { socket, buffers, seats, sessions, counts } = self;
        let mut bus = Bus::system(socket, buffers)?;
        seats.clear();
        // `a(so)`: seat and path.
        let list = Method { member: "ListSeats", ..MANAGER };
        bus.call(list, &[], |body| {
            body.array(8, |body| {
                seats.push([body.text()?]);
                body.text().map(drop)
            })
        })?;
        // Who comes over the network has none.
        seats.push([""]);
        sessions.clear();
        // `a(susso)`: session, user as number and name, seat, path.
        let list = Method { member: "ListSessions", ..MANAGER };
        bus.call(list, &[], |body| {
            body.array(8, |body| {
                let (_, _, _) = (body.text()?, body.u32()?, body.text()?);
                sessions.push([body.text()?, body.text()?]);
                Some(())
            })
        })?;
        let interface = "org.freedesktop.login1.Session";
        let wanted = sessions
            .iter()
            .flat_map(|[_, path]| ["Remote", "Type", "Class"].map(|name| Property { path, interface, name }));
        let mut answers = bus.properties(SERVICE, wanted)?.iter();
        let of_seats = seats.iter().count();
        counts.clear();
        counts.resize(REMOTE.len() * TYPES.len() * CLASSES.len() * of_seats, 0);
        for [seat, _] in sessions.iter() {
            let answers = [(); 3].map(|()| answers.next().flatten());
            // One that has ended meanwhile has no properties.
            let [Some(Value::Bool(remote)), Some(Value::Text(kind)), Some(Value::Text(class))] = answers
            else {
                continue;
            };
            // The seat may have come since they were listed.
            let Some(seat) = seats.iter().position(|[listed]| listed == seat) else { continue };
            let kinds = usize::from(!remote) * TYPES.len() + known(kind, &TYPES);
            counts[(kinds * CLASSES.len() + known(class, &CLASSES)) * of_seats + seat] += 1;
        }
        let mut counts = counts.iter();
        for remote in REMOTE {
            for kind in TYPES {
                for class in CLASSES {
                    for ([seat], count) in seats.iter().zip(counts.by_ref()) {
                        let labels = out.labels(&[
                            ("seat", seat),
                            ("remote", remote),
                            ("type", kind),
                            ("class", class),
                        ]);
                        out.node(F::Sessions, labels, f64::from(*count));
                    }
                }
            }
        }
        Ok(())
    }
}

impl NodeCollector for Logind {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.give(out).map_err(|error| failed(&self.socket, error))
    }
}

/// Which of these it is.
fn known(text: &str, known: &[&str]) -> usize {
    known.iter().position(|known| *known == text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::{Tree, scrape};
    use crate::source::dbus::fake::{FakeBus, Reply};

    #[test]
    fn sessions_are_counted_and_every_combination_is_given() {
        let seats = |reply: &mut Reply| {
            reply.array(8, |reply| {
                reply.structure(|reply| ["seat0", "/seat0"].into_iter().for_each(|t| reply.text(t)))
            });
        };
        let sessions = |reply: &mut Reply| {
            reply.array(8, |reply| {
                for (id, seat) in [("c1", "seat0"), ("7", ""), ("8", ""), ("9", "")] {
                    reply.structure(|reply| {
                        reply.text(id);
                        reply.number(1000);
                        ["someone", seat, &format!("/s/{id}")].into_iter().for_each(|t| reply.text(t));
                    });
                }
            });
        };
        let path = MANAGER.path;
        let mut bus = FakeBus::new().method(path, MANAGER.interface, "ListSeats", "a(so)", seats).method(
            path,
            MANAGER.interface,
            "ListSessions",
            "a(susso)",
            sessions,
        );
        // The last has ended.
        for (id, remote, kind, class) in
            [("c1", 0, "wayland", "user"), ("7", 1, "tty", "user"), ("8", 1, "tty", "manager")]
        {
            let (path, interface) = (format!("/s/{id}"), "org.freedesktop.login1.Session");
            bus = bus
                .property(&path, interface, "Remote", "b", move |reply| reply.number(remote))
                .property(&path, interface, "Type", "s", move |reply| reply.text(kind))
                .property(&path, interface, "Class", "s", move |reply| reply.text(class));
        }
        let tree = Tree::new(&[]);
        let served = bus.listen(&tree.path().join("run/dbus/system_bus_socket"));
        let (lines, result) = scrape(&COLLECTOR, tree.start(&COLLECTOR, &[]).as_mut());
        result.unwrap();
        served.join().unwrap();
        assert_eq!(lines.len(), 2 * 7 * 5 * 2);
        let some: Vec<_> = lines.iter().filter(|line| !line.ends_with(" 0")).collect();
        let expected = [
            r#"node_logind_sessions{seat="",remote="true",type="tty",class="other"} 1"#,
            r#"node_logind_sessions{seat="",remote="true",type="tty",class="user"} 1"#,
            r#"node_logind_sessions{seat="seat0",remote="false",type="wayland",class="user"} 1"#,
        ];
        assert_eq!(some, expected.iter().collect::<Vec<_>>());
    }
}
