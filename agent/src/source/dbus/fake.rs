//! A bus for tests, with one client: it answers the calls and properties that it was given.
//!
//! It keeps to the D-Bus Specification by itself, and not by what the client makes of it: authentication, a signal before
//! the reply to Hello, errors by name, replies that follow one another.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use super::message::{Body, FIXED, Value, length, pad, push_text};

type Write = Box<dyn Fn(&mut Reply) + Send>;

/// Who, what, of which type, and how it is written.
struct Answer {
    path: String,
    interface: String,
    name: String,
    signature: String,
    write: Write,
}

#[derive(Default)]
pub(crate) struct FakeBus {
    methods: Vec<Answer>,
    properties: Vec<Answer>,
}

/// The body of a reply.
pub(crate) struct Reply(Vec<u8>);

impl Reply {
    pub(crate) fn text(&mut self, text: &str) {
        push_text(&mut self.0, 0, text);
    }

    pub(crate) fn number(&mut self, number: u32) {
        pad(&mut self.0, 0, 4);
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn long(&mut self, number: u64) {
        pad(&mut self.0, 0, 8);
        self.0.extend(number.to_le_bytes());
    }

    /// Items that begin at multiples of `align`.
    pub(crate) fn array(&mut self, align: usize, items: impl FnOnce(&mut Self)) {
        self.number(0);
        let length = self.0.len() - 4;
        pad(&mut self.0, 0, align);
        let start = self.0.len();
        items(self);
        let written = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&written.to_le_bytes());
    }

    pub(crate) fn structure(&mut self, members: impl FnOnce(&mut Self)) {
        pad(&mut self.0, 0, 8);
        members(self);
    }
}

impl FakeBus {
    pub(crate) fn new() -> Self {
        FakeBus::default()
    }

    pub(crate) fn method(
        mut self,
        path: &str,
        interface: &str,
        name: &str,
        signature: &str,
        write: impl Fn(&mut Reply) + Send + 'static,
    ) -> Self {
        self.methods.push(answer(path, interface, name, signature, write));
        self
    }

    pub(crate) fn property(
        mut self,
        path: &str,
        interface: &str,
        name: &str,
        signature: &str,
        write: impl Fn(&mut Reply) + Send + 'static,
    ) -> Self {
        self.properties.push(answer(path, interface, name, signature, write));
        self
    }

    /// Waits at this socket for one client, and serves it until it goes.
    pub(crate) fn listen(self, socket: &Path) -> JoinHandle<()> {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || self.serve(listener.accept().unwrap().0))
    }

    pub(crate) fn serve(&self, mut stream: UnixStream) {
        let user = rustix::process::geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        expect(&mut stream, &format!("\0AUTH EXTERNAL {user}\r\n"));
        stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        expect(&mut stream, "BEGIN\r\n");
        let mut message = vec![0; FIXED];
        while stream.read_exact(&mut message).is_ok() {
            message.resize(length(&message).unwrap(), 0);
            stream.read_exact(&mut message[FIXED..]).unwrap();
            stream.write_all(&self.answer(&message)).unwrap();
            message.resize(FIXED, 0);
        }
    }

    fn answer(&self, message: &[u8]) -> Vec<u8> {
        let mut fields = Body::new(message, 8);
        let (serial, length) = (fields.u32().unwrap(), fields.u32().unwrap() as usize);
        let end = FIXED + length;
        let mut texts = vec![String::new(); 10];
        while fields.at() < end {
            fields.align(8).unwrap();
            let code = usize::from(fields.u8().unwrap());
            if let Some(Value::Text(text)) = fields.variant() {
                texts[code] = text.to_owned();
            }
        }
        let [_, path, interface, member, ..] = &texts[..] else { unreachable!() };
        let mut body = Body::new(message, end.next_multiple_of(8));
        if member == "Hello" {
            let mut out = sent(
                4,
                &[
                    (1, "o", "/org/freedesktop/DBus"),
                    (2, "s", "org.freedesktop.DBus"),
                    (3, "s", "NameAcquired"),
                ],
                None,
                "s",
                |reply| reply.text(":1.1"),
            );
            out.extend(sent(2, &[], Some(serial), "s", |reply| reply.text(":1.1")));
            return out;
        }
        let (list, interface, name, unknown) = match interface.as_str() {
            super::PROPERTIES => {
                let (interface, name) = (body.text().unwrap(), body.text().unwrap());
                (&self.properties, interface, name, "UnknownProperty")
            }
            _ => (&self.methods, interface.as_str(), member.as_str(), "UnknownMethod"),
        };
        let is_it = |a: &&Answer| a.path == *path && a.interface == interface && a.name == name;
        let Some(answer) = list.iter().find(is_it) else {
            let error = format!("org.freedesktop.DBus.Error.{unknown}");
            return sent(3, &[(4, "s", &error)], Some(serial), "s", |reply| reply.text("no such thing"));
        };
        if unknown == "UnknownMethod" {
            return sent(2, &[], Some(serial), &answer.signature, &answer.write);
        }
        property(serial, &answer.signature, &answer.write)
    }
}

/// The reply to a call that asked for a property.
pub(super) fn property(serial: u32, signature: &str, write: impl Fn(&mut Reply)) -> Vec<u8> {
    sent(2, &[], Some(serial), "v", |reply| {
        reply.0.extend([&[signature.len() as u8], signature.as_bytes(), &[0]].concat());
        write(reply);
    })
}

fn answer(
    path: &str,
    interface: &str,
    name: &str,
    signature: &str,
    write: impl Fn(&mut Reply) + Send + 'static,
) -> Answer {
    let [path, interface, name, signature] = [path, interface, name, signature].map(str::to_owned);
    Answer { path, interface, name, signature, write: Box::new(write) }
}

fn expect(stream: &mut UnixStream, text: &str) {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8_lossy(&read), text);
}

fn sent(
    kind: u8,
    fields: &[(u8, &str, &str)],
    reply_to: Option<u32>,
    signature: &str,
    write: impl Fn(&mut Reply),
) -> Vec<u8> {
    let mut body = Reply(Vec::new());
    write(&mut body);
    let mut out = vec![b'l', kind, 1, 1];
    out.extend((body.0.len() as u32).to_le_bytes());
    out.extend(77u32.to_le_bytes());
    out.extend([0; 4]);
    for (code, of, text) in fields {
        pad(&mut out, 0, 8);
        out.extend([*code, 1, of.as_bytes()[0], 0]);
        push_text(&mut out, 0, text);
    }
    if let Some(serial) = reply_to {
        pad(&mut out, 0, 8);
        out.extend([5, 1, b'u', 0]);
        out.extend(serial.to_le_bytes());
    }
    pad(&mut out, 0, 8);
    out.extend([&[8, 1, b'g', 0, signature.len() as u8], signature.as_bytes(), &[0]].concat());
    let length = (out.len() - FIXED) as u32;
    out[FIXED - 4..FIXED].copy_from_slice(&length.to_le_bytes());
    pad(&mut out, 0, 8);
    out.extend(body.0);
    out
}
