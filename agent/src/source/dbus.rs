//! Calls over D-Bus, as far as collectors make them: method calls without files, and their replies.
//!
//! By hand, since all that is needed is a page of the D-Bus Specification: a library would bring an executor of its own,
//! a macro for each interface and some fifty crates.

mod message;

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use message::Header;
pub use message::{Body, Value};

/// A connection to a bus, or to a single service.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    /// What is to be sent, and what was read of the next message.
    out: Vec<u8>,
    message: Vec<u8>,
    /// Whether others are behind it, so that each call names whom it is for.
    is_shared: bool,
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

impl Bus {
    /// How long one read or write may take: the thread of a collector shall not wait for ever.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Connects to a bus and says hello.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn system(socket: &Path) -> Result<Self, BusError> {
        let mut bus = Bus::over(UnixStream::connect(socket)?, true)?;
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
    pub fn private(socket: &Path) -> Result<Self, BusError> {
        Bus::over(UnixStream::connect(socket)?, false)
    }

    /// Authenticates as who we are, which the socket tells the other side anyway (Authentication Protocol, EXTERNAL).
    fn over(stream: UnixStream, is_shared: bool) -> Result<Self, BusError> {
        stream.set_read_timeout(Some(Bus::PATIENCE))?;
        stream.set_write_timeout(Some(Bus::PATIENCE))?;
        let mut bus = Bus { stream, serial: 0, out: Vec::new(), message: Vec::new(), is_shared };
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
            let header = self.receive()?;
            if header.reply_to == Some(serial) {
                return make(&mut header.body(&self.message)?).ok_or(BusError::Malformed);
            }
        }
    }

    /// Reads properties of a service's objects; nothing where one has no such property.
    ///
    /// # Errors
    /// See [`BusError`]; one that concerns a single property is not among them.
    pub fn properties(
        &mut self,
        service: &str,
        wanted: &[Property<'_>],
    ) -> Result<Vec<Option<Value>>, BusError> {
        /// Calls that may wait for their reply; what both sides keep for them is a few kilobytes.
        const AT_ONCE: usize = 64;
        let mut found = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(AT_ONCE) {
            let mut places = HashMap::new();
            for property in wanted {
                let method = Method { service, path: property.path, interface: PROPERTIES, member: "Get" };
                places.insert(self.queue(method, &[property.interface, property.name])?, found.len());
                found.push(None);
            }
            self.flush()?;
            while !places.is_empty() {
                let header = self.receive()?;
                let Some(place) = header.reply_to.and_then(|serial| places.remove(&serial)) else { continue };
                match header.body(&self.message) {
                    Ok(mut body) => found[place] = Some(body.variant().ok_or(BusError::Malformed)?),
                    Err(BusError::Error(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Reads one property; nothing where there is none.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn property(&mut self, service: &str, property: Property<'_>) -> Result<Option<Value>, BusError> {
        Ok(self.properties(service, &[property])?.pop().flatten())
    }

    fn queue(&mut self, method: Method<'_>, arguments: &[&str]) -> Result<u32, BusError> {
        // Zero is no serial.
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let is_good = message::call(&mut self.out, self.serial, method, self.is_shared, arguments);
        is_good.then_some(self.serial).ok_or(BusError::Malformed)
    }

    fn flush(&mut self) -> Result<(), BusError> {
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        Ok(sent?)
    }

    /// The next message, whatever it is.
    fn receive(&mut self) -> Result<Header, BusError> {
        self.message.resize(message::FIXED, 0);
        self.stream.read_exact(&mut self.message)?;
        let length = message::length(&self.message).ok_or(BusError::Malformed)?;
        self.message.resize(length, 0);
        self.stream.read_exact(&mut self.message[message::FIXED..])?;
        Header::parse(&self.message).ok_or(BusError::Malformed)
    }
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
        let mut bus = Bus::over(near, true).unwrap();
        let method = Method { service: "x", path: "/a", interface: "x.Y", member: "List" };
        let list = bus.call(method, &[], |body| body.array(Body::text)).unwrap();
        assert_eq!(list, ["one"]);
        let error = bus.call(Method { member: "No", ..method }, &[], |_| Some(())).unwrap_err();
        assert_eq!(error.to_string(), "org.freedesktop.DBus.Error.UnknownMethod");
        assert!(matches!(bus.call(method, &[], |_| None::<()>), Err(BusError::Malformed)));
        // More than wait at once.
        let wanted = ["Count", "No", "Name"].map(|name| Property { path: "/a", interface: "x.Y", name });
        let found = bus.properties("x", &wanted.repeat(50)).unwrap();
        let expected = [Some(Value::Number(7)), None, Some(Value::Text("näme".to_owned()))];
        assert!(found.chunks(3).all(|three| three == expected) && found.len() == 150);
        drop(bus);
        thread.join().unwrap();
    }

    #[test]
    fn who_is_not_let_in_is_told_so() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        let error = Bus::over(near, true).unwrap_err();
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
            let mut bus = Bus::over(near, true).unwrap();
            far.shutdown(std::net::Shutdown::Write).unwrap();
            let method = Method { service: "x", path: "/", interface: "x.Y", member: "M" };
            assert!(matches!(
                bus.call(method, &[], |_| Some(())),
                Err(BusError::Malformed | BusError::Io(_))
            ));
        }
    }
}
