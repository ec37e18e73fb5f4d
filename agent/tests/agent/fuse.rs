//! A FUSE file system with one file, which can stop answering and answer again, as a network file system may.
//!
//! It speaks the kernel's protocol (include/uapi/linux/fuse.h) by itself, as much as is needed to list a directory, to
//! read a file and to tell sizes. While it does not answer it does not read either, so that who waits can be killed.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The name of its file.
pub(crate) const FILE: &str = "metrics.prom";
/// What the table of mounts names as its device.
pub(crate) const DEVICE: &str = "dead-server";

/// A mounted file system; gone when dropped.
pub(crate) struct Fuse {
    point: PathBuf,
    shared: Arc<(Mutex<State>, Condvar)>,
    server: Option<JoinHandle<()>>,
}

struct State {
    answers: bool,
    ended: bool,
    text: String,
    /// How often the file has changed, which is its time of modification, too.
    changes: u64,
}

impl Fuse {
    /// Mounts it, with this text in its file.
    pub(crate) fn mount(point: &Path, text: &str) -> Self {
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount(DEVICE, point, "fuse", flags, options.as_c_str()).unwrap();
        let state = State { answers: true, ended: false, text: text.to_owned(), changes: 1 };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let ours = shared.clone();
        let server = std::thread::spawn(move || serve(&device, &ours));
        Fuse { point: point.to_owned(), shared, server: Some(server) }
    }

    /// From now on nobody is answered.
    pub(crate) fn stop_answering(&self) {
        self.state().answers = false;
    }

    /// Answers all that wait, and whoever asks from now on; the file has this text.
    pub(crate) fn answer_again(&self, text: &str) {
        let mut state = self.state();
        state.answers = true;
        state.text = text.to_owned();
        state.changes += 1;
        self.shared.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // The connection ends with the server's handle, and with it all that waits for an answer.
        self.shared.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).ended = true;
        self.shared.1.notify_all();
        let _ = self.server.take().map(JoinHandle::join);
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}

fn serve(device: &OwnedFd, shared: &(Mutex<State>, Condvar)) {
    let (lock, changed) = shared;
    let mut request = vec![0; 256 << 10];
    let often = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    loop {
        let mut state = changed.wait_while(lock.lock().unwrap(), |s| !s.answers && !s.ended).unwrap();
        if state.ended {
            return;
        }
        drop(state);
        // Not in `read`: what it has taken before it is told to stop, it would have to answer.
        let mut ready = [PollFd::new(device, PollFlags::IN)];
        if poll(&mut ready, Some(&often)).unwrap() == 0 {
            continue;
        }
        state = lock.lock().unwrap();
        if !state.answers || state.ended {
            continue;
        }
        let length = match rustix::io::read(device, &mut request) {
            Ok(length) => length,
            // Whoever asked has been interrupted meanwhile.
            Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => continue,
            Err(error) => panic!("/dev/fuse: {error}"),
        };
        if let Some(answer) = answer(&request[..length], &state) {
            // Who has been interrupted needs no answer any more.
            let _ = rustix::io::write(device, &answer);
        }
    }
}

const ROOT: u64 = 1;
const METRICS: u64 = 2;

/// The answer to one request; some have none.
fn answer(request: &[u8], state: &State) -> Option<Vec<u8>> {
    let number = |at: usize, length: usize| {
        request[at..at + length].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (opcode, unique, node) = (number(4, 4), number(8, 8), number(16, 8));
    let body = match opcode {
        // LOOKUP
        1 if &request[40..] == format!("{FILE}\0").as_bytes() => {
            let mut entry = fields64(&[METRICS, 0, 0, 0, 0]);
            entry.extend(attributes(METRICS, state));
            Ok(entry)
        }
        1 => Err(Errno::NOENT),
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // GETATTR
        3 => {
            let mut attribute = fields64(&[0, 0]);
            attribute.extend(attributes(node, state));
            Ok(attribute)
        }
        // OPEN and OPENDIR: nothing is kept by the kernel (FOPEN_DIRECT_IO).
        14 | 27 => Ok(fields64(&[0, 1])),
        // READ
        15 => {
            let (from, length) = (number(48, 8) as usize, number(56, 4) as usize);
            let rest = state.text.as_bytes().get(from..).unwrap_or_default();
            Ok(rest[..rest.len().min(length)].to_vec())
        }
        // STATFS: blocks, free, available, files, free ones; sizes of blocks and names.
        17 => {
            let mut sizes = fields64(&[1000, 600, 500, 40, 30]);
            sizes.extend(fields32(&[4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0]));
            Ok(sizes)
        }
        // RELEASE, FLUSH, RELEASEDIR, ACCESS
        18 | 25 | 29 | 34 => Ok(Vec::new()),
        // INIT: version 7.31, no extras.
        26 => {
            let mut version = fields32(&[7, 31, 0, 0, 0, 1 << 16]);
            version.resize(64, 0);
            Ok(version)
        }
        // READDIR, in one piece
        28 if number(48, 8) == 0 => {
            let mut entry = fields64(&[METRICS, 1]);
            entry.extend(fields32(&[FILE.len() as u32, 8]));
            entry.extend(FILE.as_bytes());
            entry.resize(entry.len().next_multiple_of(8), 0);
            Ok(entry)
        }
        28 => Ok(Vec::new()),
        _ => Err(Errno::NOSYS),
    };
    let (error, body) = match body {
        Ok(body) => (0, body),
        Err(error) => (-error.raw_os_error(), Vec::new()),
    };
    let mut answer = fields32(&[16 + body.len() as u32, error as u32]);
    answer.extend(fields64(&[unique]));
    answer.extend(body);
    Some(answer)
}

/// `struct fuse_attr`
fn attributes(node: u64, state: &State) -> Vec<u8> {
    let (size, mode) = match node {
        ROOT => (0, 0o040_755),
        _ => (state.text.len() as u64, 0o100_644),
    };
    let time = 1_000_000_000 + state.changes;
    let mut attributes = fields64(&[node, size, 1, time, time, time]);
    attributes.extend(fields32(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]));
    attributes
}

fn fields64(fields: &[u64]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.to_ne_bytes()).collect()
}

fn fields32(fields: &[u32]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.to_ne_bytes()).collect()
}
