//! Messages of D-Bus as bytes (D-Bus Specification, Message Protocol and Type System).

use super::Method;

/// What every message begins with: byte order, kind, flags, version, length of the body, serial, length of the fields.
pub(super) const FIXED: usize = 16;

/// The specification allows 128 MiB; the list of all units of a large machine has less than one.
const LONGEST: usize = 16 << 20;

/// What a message says.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// The call that it answers; a signal, such as that we have a name now, answers none.
    pub(super) reply_to: Option<u32>,
    /// What follows the header, or the name of the error that it is.
    pub(super) body: Result<Body<'a>, &'a str>,
}

/// The value of a property; a text is either itself or where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<T> {
    /// A text, also one that is a path or a signature.
    Text(T),
    /// A number that is not negative.
    Number(u64),
    /// Yes or no.
    Bool(bool),
    /// One of a type that nobody here asks for.
    Other,
}

impl<T> Value<T> {
    /// The same with the text as something else.
    pub(super) fn map<U>(self, text: impl FnOnce(T) -> U) -> Value<U> {
        match self {
            Value::Text(of) => Value::Text(text(of)),
            Value::Number(number) => Value::Number(number),
            Value::Bool(is_so) => Value::Bool(is_so),
            Value::Other => Value::Other,
        }
    }

    /// The text, where it is one.
    pub fn text(self) -> Option<T> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, where it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// Appends a method call whose arguments are texts; whether that can be written.
pub(super) fn call(
    out: &mut Vec<u8>,
    serial: u32,
    method: Method<'_>,
    is_shared: bool,
    arguments: &[&str],
) -> bool {
    let start = out.len();
    // How long body and fields are is only known when they are written.
    out.extend([b'l', 1, 0, 1, 0, 0, 0, 0]);
    out.extend(serial.to_le_bytes());
    out.extend([0; 4]);
    let service = if is_shared { method.service } else { "" };
    for (code, kind, value) in
        [(1, b'o', method.path), (2, b's', method.interface), (3, b's', method.member), (6, b's', service)]
    {
        if !value.is_empty() {
            pad(out, start, 8);
            out.extend([code, 1, kind, 0]);
            push_text(out, start, value);
        }
    }
    if !arguments.is_empty() {
        pad(out, start, 8);
        out.extend([8, 1, b'g', 0, arguments.len() as u8]);
        out.extend(arguments.iter().map(|_| b's').chain([0]));
    }
    let fields = (out.len() - start - FIXED) as u32;
    out[start + FIXED - 4..start + FIXED].copy_from_slice(&fields.to_le_bytes());
    pad(out, start, 8);
    let begin = out.len();
    for argument in arguments {
        push_text(out, begin, argument);
    }
    let body = (out.len() - begin) as u32;
    out[start + 4..start + 8].copy_from_slice(&body.to_le_bytes());
    // A text with a zero byte would end there for the other side.
    let texts = [method.path, method.interface, method.member, method.service];
    !texts.iter().chain(arguments).any(|text| text.contains('\0'))
}

pub(super) fn pad(out: &mut Vec<u8>, start: usize, to: usize) {
    out.resize(start + (out.len() - start).next_multiple_of(to), 0);
}

pub(super) fn push_text(out: &mut Vec<u8>, start: usize, text: &str) {
    pad(out, start, 4);
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes().chain([0]));
}

/// How long a whole message is, from its first bytes.
pub(super) fn length(fixed: &[u8]) -> Option<usize> {
    let mut body = Body { bytes: fixed, at: 4, is_big: is_big(fixed)? };
    let (of_body, _, of_fields) = (body.u32()?, body.u32()?, body.u32()?);
    let length =
        FIXED.checked_add((of_fields as usize).next_multiple_of(8))?.checked_add(of_body as usize)?;
    (length <= LONGEST).then_some(length)
}

fn is_big(message: &[u8]) -> Option<bool> {
    match (message.first()?, message.get(3)?) {
        (b'l', 1) => Some(false),
        (b'B', 1) => Some(true),
        _ => None,
    }
}

impl<'a> Message<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        const ERROR: u8 = 3;
        let is_big = is_big(message)?;
        let kind = *message.get(1)?;
        let mut fields = Body { bytes: message, at: FIXED - 4, is_big };
        let end = FIXED + fields.u32()? as usize;
        let (mut reply_to, mut error) = (None, "");
        while fields.at < end {
            fields.align(8)?;
            match (fields.u8()?, fields.variant()?) {
                (4, Value::Text(name)) => error = name,
                (5, Value::Number(serial)) if matches!(kind, 2 | ERROR) => reply_to = Some(serial as u32),
                _ => {}
            }
        }
        let bytes = message.get(end.next_multiple_of(8)..)?;
        let body = if kind == ERROR { Err(error) } else { Ok(Body { bytes, at: 0, is_big }) };
        Some(Message { reply_to, body })
    }
}

/// Reads values one after the other; nothing where there is no such value.
#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

#[cfg(test)]
impl<'a> Body<'a> {
    /// What begins here, with the lowest byte first.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Body { bytes, at, is_big: false }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }
}

impl<'a> Body<'a> {
    pub(super) fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align(N)?;
        let bytes = self.bytes.get(self.at..self.at.checked_add(N)?)?.try_into().ok()?;
        self.at += N;
        Some(bytes)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take()?;
        Some(if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// UINT32
    pub fn u32(&mut self) -> Option<u32> {
        let bytes = self.take()?;
        Some(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// UINT64
    pub fn u64(&mut self) -> Option<u64> {
        let bytes = self.take()?;
        Some(if self.is_big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// STRING or OBJECT_PATH, which are UTF-8.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        self.bytes_and_zero(length)
    }

    fn bytes_and_zero(&mut self, length: usize) -> Option<&'a str> {
        let text = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        (self.u8()? == 0).then(|| std::str::from_utf8(text).ok())?
    }

    /// ARRAY whose items are read by `item` and begin at multiples of `align`, which is 8 of STRUCT.
    pub fn array(&mut self, align: usize, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let length = self.u32()? as usize;
        self.align(align)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        while self.at < end {
            let before = self.at;
            self.align(align)?;
            item(self)?;
            // An item of no length would never end.
            if self.at == before {
                return None;
            }
        }
        (self.at == end).then_some(())
    }

    /// VARIANT; one of a type that is not a number, a text or a BOOLEAN ends the body.
    pub fn variant(&mut self) -> Option<Value<&'a str>> {
        let length = usize::from(self.u8()?);
        Some(match self.bytes_and_zero(length)? {
            "s" | "o" => Value::Text(self.text()?),
            "g" => {
                let length = usize::from(self.u8()?);
                Value::Text(self.bytes_and_zero(length)?)
            }
            "y" => Value::Number(u64::from(self.u8()?)),
            "q" => Value::Number(u64::from(self.u16()?)),
            "u" => Value::Number(u64::from(self.u32()?)),
            "t" => Value::Number(self.u64()?),
            "b" => Value::Bool(self.u32()? != 0),
            _ => {
                self.at = self.bytes.len();
                Value::Other
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_written_as_the_specification_says() {
        let mut out = Vec::new();
        let method = Method { service: "a.b", path: "/c", interface: "d.e", member: "F" };
        assert!(call(&mut out, 9, method, true, &["x", "yz"]));
        let expected: &[&[u8]] = &[
            b"l\x01\x00\x01",
            b"\x0f\x00\x00\x00\x09\x00\x00\x00\x48\x00\x00\x00",
            b"\x01\x01o\x00\x02\x00\x00\x00/c\x00\x00\x00\x00\x00\x00",
            b"\x02\x01s\x00\x03\x00\x00\x00d.e\x00\x00\x00\x00\x00",
            b"\x03\x01s\x00\x01\x00\x00\x00F\x00\x00\x00\x00\x00\x00\x00",
            b"\x06\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00",
            b"\x08\x01g\x00\x02ss\x00",
            b"\x01\x00\x00\x00x\x00\x00\x00\x02\x00\x00\x00yz\x00",
        ];
        assert_eq!(out, expected.concat());
        assert!(!call(&mut out, 9, method, true, &["x\0"]));
    }

    #[test]
    fn a_reply_of_either_byte_order_is_read() {
        let little: &[&[u8]] = &[
            b"l\x02\x01\x01\x10\x00\x00\x00\x05\x00\x00\x00\x0f\x00\x00\x00",
            b"\x05\x01u\x00\x09\x00\x00\x00\x08\x01g\x00\x01v\x00\x00",
            b"\x01t\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00",
        ];
        let big: &[&[u8]] = &[
            b"B\x02\x01\x01\x00\x00\x00\x10\x00\x00\x00\x05\x00\x00\x00\x0f",
            b"\x05\x01u\x00\x00\x00\x00\x09\x08\x01g\x00\x01v\x00\x00",
            b"\x01t\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07",
        ];
        for message in [little.concat(), big.concat()] {
            assert_eq!(length(&message[..FIXED]), Some(message.len()));
            let read = Message::parse(&message).unwrap();
            assert_eq!(read.reply_to, Some(9));
            assert_eq!(read.body.unwrap().variant(), Some(Value::Number(7)));
            for cut in FIXED..message.len() - 1 {
                let value = Message::parse(&message[..cut]).and_then(|message| message.body.ok()?.variant());
                assert_eq!(value, None);
            }
        }
    }

    #[test]
    fn arrays_end_where_they_say() {
        let body = |bytes: &'static [u8]| Body { bytes, at: 0, is_big: false };
        let numbers = |bytes| {
            let mut read = Vec::new();
            body(bytes).array(4, |body| body.u32().map(|number| read.push(number))).map(|()| read)
        };
        assert_eq!(numbers(b"\x08\0\0\0\x01\0\0\0\x02\0\0\0"), Some(vec![1, 2]));
        assert_eq!(numbers(b"\x06\0\0\0\x01\0\0\0\x02\0\0\0"), None);
        assert_eq!(numbers(b"\xff\xff\xff\xff\x01\0\0\0"), None);
        assert_eq!(body(b"\x04\0\0\0\0\0\0\0").array(4, |_| Some(())), None);
        let structs = |bytes| body(bytes).array(8, |body| body.text().map(drop));
        assert_eq!(structs(b"\0\0\0\0\0\0\0\0"), Some(()));
        let longer = b"\x1a\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0\x07\0\0\0\0\0\0\0\x01\0\0\0b\0";
        assert_eq!(structs(longer), None, "the first has more than its text");
    }

    #[test]
    fn a_text_is_utf_8_and_ends_with_zero() {
        let text = |bytes| Body { bytes, at: 0, is_big: false }.text();
        assert_eq!(text(b"\x02\0\0\0\xc3\xa4\0"), Some("\u{e4}"));
        assert_eq!(text(b"\x02\0\0\0\xc3\xc3\0"), None);
        assert_eq!(text(b"\x01\0\0\0aa"), None);
    }
}
