//! Calls over D-Bus, as far as collectors make them: method calls without files, and their replies.
//!
//! By hand, since all that is needed is a page of the D-Bus Specification: a library would bring an executor of its own,
//! a macro for each interface and some fifty crates.

mod list;
mod message;

use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub use list::List;
use message::Message;
pub use message::{Body, Value};

/// A connection to a bus, or to a single service.
#[derive(Debug)]
pub struct Bus<'a> {
    stream: UnixStream,
    serial: u32,
    buffers: &'a mut Buffers,
    /// Whether others are behind it, so that each call names whom it is for.
    is_shared: bool,
}

/// What outlasts a connection, so that the next one need not allocate it again.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What is to be sent.
    out: Vec<u8>,
    /// What was read of the next message.
    message: Vec<u8>,
    answers: Answers,
}

/// What properties are, in the order in which they were asked for.
#[derive(Debug, Default)]
pub struct Answers {
    values: Vec<Option<Value<Range<usize>>>>,
    /// The texts of all of them, one after the other.
    texts: String,
}

impl Answers {
    /// Nothing for an object that has no such property.
    pub fn iter(&self) -> impl Iterator<Item = Option<Value<&str>>> {
        let text = |range: Range<usize>| self.texts.get(range).unwrap_or_default();
        self.values.iter().map(move |value| value.clone().map(|value| value.map(text)))
    }

    fn set(&mut self, place: usize, value: Value<&str>) {
        let start = self.texts.len();
        let value = value.map(|text| self.texts.push_str(text));
        self.values[place] = Some(value.map(|()| start..self.texts.len()));
    }
}

/// Which method of which object is called.
#[derive(Clone, Copy, Debug)]
pub struct Method<'a> {
    /// Whose object, by a name such as `org.freedesktop.systemd1`.
    pub service: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface that the method is of.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
}

/// A property of an object.
#[derive(Clone, Copy, Debug)]
pub struct Property<'a> {
    /// The object.
    pub path: &'a str,
    /// The interface that the property is of.
    pub interface: &'a str,
    /// The property.
    pub name: &'a str,
}

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no socket, it refused, or it did not answer in time.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Who listens there does not know us.
    #[error("authentication failed: {0}")]
    Refused(String),
    /// The reply is not of the form that the call has.
    #[error("a message is not as it should be")]
    Malformed,
    /// The reply is an error, by its name.
    #[error("{0}")]
    Error(String),
}

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

impl<'a> Bus<'a> {
    /// How long one read or write may take: the thread of a collector shall not wait for ever.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Connects to a bus and says hello.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn system(socket: &Path, buffers: &'a mut Buffers) -> Result<Self, BusError> {
        let mut bus = Bus::over(UnixStream::connect(socket)?, true, buffers)?;
        let bus_itself = "org.freedesktop.DBus";
        let hello = Method {
            service: bus_itself,
            path: "/org/freedesktop/DBus",
            interface: bus_itself,
            member: "Hello",
        };
        bus.call(hello, &[], |_| Some(()))?;
        Ok(bus)
    }

    /// Connects to a service that listens by itself.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn private(socket: &Path, buffers: &'a mut Buffers) -> Result<Self, BusError> {
        Bus::over(UnixStream::connect(socket)?, false, buffers)
    }

    /// Authenticates as who we are, which the socket tells the other side anyway (Authentication Protocol, EXTERNAL).
    fn over(stream: UnixStream, is_shared: bool, buffers: &'a mut Buffers) -> Result<Self, BusError> {
        stream.set_read_timeout(Some(Bus::PATIENCE))?;
        stream.set_write_timeout(Some(Bus::PATIENCE))?;
        // A call that could not be written may have left a part.
        buffers.out.clear();
        let mut bus = Bus { stream, serial: 0, buffers, is_shared };
        let user = rustix::process::geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        bus.stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let answer = bus.line()?;
        if !answer.starts_with("OK ") {
            return Err(BusError::Refused(answer));
        }
        bus.stream.write_all(b"BEGIN\r\n")?;
        Ok(bus)
    }

    fn line(&mut self) -> Result<String, BusError> {
        const LONGEST: usize = 1024;
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LONGEST {
                return Err(BusError::Malformed);
            }
        }
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    /// Calls a method whose arguments are texts, and makes something of the reply.
    ///
    /// # Errors
    /// See [`BusError`]; what the reply cannot be made into is malformed.
    pub fn call<T>(
        &mut self,
        method: Method<'_>,
        arguments: &[&str],
        make: impl FnOnce(&mut Body<'_>) -> Option<T>,
    ) -> Result<T, BusError> {
        let serial = self.queue(method, arguments)?;
        self.flush()?;
        loop {
            let message = receive(&mut self.stream, &mut self.buffers.message)?;
            if message.reply_to == Some(serial) {
                let mut body = message.body.map_err(|name| BusError::Error(name.to_owned()))?;
                return make(&mut body).ok_or(BusError::Malformed);
            }
        }
    }

    /// Reads properties of a service's objects.
    ///
    /// # Errors
    /// See [`BusError`]; one that concerns a single property is not among them.
    pub fn properties<'w>(
        &mut self,
        service: &str,
        wanted: impl IntoIterator<Item = Property<'w>>,
    ) -> Result<&Answers, BusError> {
        /// Calls that may wait for their reply; what both sides keep for them is a few kilobytes.
        const AT_ONCE: usize = 64;
        let mut wanted = wanted.into_iter().fuse();
        self.buffers.answers.values.clear();
        self.buffers.answers.texts.clear();
        loop {
            let (start, first) = (self.buffers.answers.values.len(), self.serial.wrapping_add(1));
            for property in wanted.by_ref().take(AT_ONCE) {
                let method = Method { service, path: property.path, interface: PROPERTIES, member: "Get" };
                self.queue(method, &[property.interface, property.name])?;
                self.buffers.answers.values.push(None);
            }
            let asked = self.buffers.answers.values.len() - start;
            if asked == 0 {
                return Ok(&self.buffers.answers);
            }
            self.flush()?;
            let mut is_answered = [false; AT_ONCE];
            while is_answered[..asked].contains(&false) {
                let message = receive(&mut self.stream, &mut self.buffers.message)?;
                let Some(serial) = message.reply_to else { continue };
                // Serials follow one another, so that they tell the place.
                let place = serial.wrapping_sub(first) as usize;
                if place >= asked || std::mem::replace(&mut is_answered[place], true) {
                    continue;
                }
                if let Ok(mut body) = message.body {
                    let value = body.variant().ok_or(BusError::Malformed)?;
                    self.buffers.answers.set(start + place, value);
                }
            }
        }
    }

    fn queue(&mut self, method: Method<'_>, arguments: &[&str]) -> Result<u32, BusError> {
        // Zero is no serial.
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let is_good = message::call(&mut self.buffers.out, self.serial, method, self.is_shared, arguments);
        is_good.then_some(self.serial).ok_or(BusError::Malformed)
    }

    fn flush(&mut self) -> Result<(), BusError> {
        let sent = self.stream.write_all(&self.buffers.out);
        self.buffers.out.clear();
        Ok(sent?)
    }
}

/// The next message, whatever it is.
fn receive<'m>(stream: &mut UnixStream, message: &'m mut Vec<u8>) -> Result<Message<'m>, BusError> {
    message.resize(message::FIXED, 0);
    stream.read_exact(message)?;
    let length = message::length(message).ok_or(BusError::Malformed)?;
    message.resize(length, 0);
    stream.read_exact(&mut message[message::FIXED..])?;
    Message::parse(message).ok_or(BusError::Malformed)
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::fake::FakeBus;
    use super::*;

    #[test]
    fn calls_and_properties_are_answered_whatever_comes_between() {
        let (near, far) = UnixStream::pair().unwrap();
        let bus = FakeBus::new()
            .method("/a", "x.Y", "List", "as", |body| body.array(4, |body| body.text("one")))
            .property("/a", "x.Y", "Count", "u", |body| body.number(7))
            .property("/a", "x.Y", "Name", "s", |body| body.text("näme"));
        let thread = std::thread::spawn(move || bus.serve(far));
        let mut buffers = Buffers::default();
        let mut bus = Bus::over(near, true, &mut buffers).unwrap();
        let method = Method { service: "x", path: "/a", interface: "x.Y", member: "List" };
        let mut list = Vec::new();
        let read = |body: &mut Body<'_>| body.text().map(|text| list.push(text.to_owned()));
        bus.call(method, &[], |body| body.array(4, read)).unwrap();
        assert_eq!(list, ["one"]);
        let error = bus.call(Method { member: "No", ..method }, &[], |_| Some(())).unwrap_err();
        assert_eq!(error.to_string(), "org.freedesktop.DBus.Error.UnknownMethod");
        assert!(matches!(bus.call(method, &[], |_| None::<()>), Err(BusError::Malformed)));
        // More than wait at once.
        let wanted = ["Count", "No", "Name"].map(|name| Property { path: "/a", interface: "x.Y", name });
        let expected = [Some(Value::Number(7)), None, Some(Value::Text("näme"))];
        for times in [50, 1] {
            let found = bus.properties("x", wanted.repeat(times)).unwrap();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected.repeat(times));
        }
        drop(bus);
        thread.join().unwrap();
    }

    #[test]
    fn answers_may_come_in_any_order_and_more_than_once() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"OK 0123\r\n").unwrap();
        for (serial, number) in [(9, 0), (2, 20), (2, 0), (0, 0), (3, 30), (1, 10)] {
            far.write_all(&fake::property(serial, "u", |body| body.number(number))).unwrap();
        }
        let mut buffers = Buffers::default();
        let mut bus = Bus::over(near, false, &mut buffers).unwrap();
        let wanted = ["A", "B", "C"].map(|name| Property { path: "/", interface: "x.Y", name });
        let found = bus.properties("x", wanted).unwrap();
        let numbers: Vec<_> = found.iter().map(|value| value.unwrap().number().unwrap()).collect();
        assert_eq!(numbers, [10, 20, 30]);
    }

    #[test]
    fn who_is_not_let_in_is_told_so() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        let error = Bus::over(near, true, &mut Buffers::default()).unwrap_err();
        assert!(matches!(&error, BusError::Refused(answer) if answer == "REJECTED EXTERNAL"), "{error}");
    }

    #[test]
    fn a_message_that_is_too_long_or_ends_early_is_an_error() {
        for bytes in [
            &[b'l', 2, 0, 1, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0][..],
            b"l\x02\0\x01",
            b"HTTP/1.1 400 Bad",
        ] {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(b"OK 0123\r\n").unwrap();
            far.write_all(bytes).unwrap();
            let mut buffers = Buffers::default();
            let mut bus = Bus::over(near, true, &mut buffers).unwrap();
            far.shutdown(std::net::Shutdown::Write).unwrap();
            let method = Method { service: "x", path: "/", interface: "x.Y", member: "M" };
            assert!(matches!(
                bus.call(method, &[], |_| Some(())),
                Err(BusError::Malformed | BusError::Io(_))
            ));
        }
    }
}
