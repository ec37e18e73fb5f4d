//! Memory into which the kernel may write as much as it likes: behind its end is a page that nobody may write to.
//!
//! What SIOCETHTOOL writes is as long as the driver has statistics at that moment, whatever the length that it was told
//! (net/ethtool/ioctl.c, ethtool_get_strings and ethtool_get_stats), and drivers change that number while they run. So no
//! length makes a buffer safe. The kernel writes from the start on and stops with EFAULT at a page that it cannot write.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

const SIOCETHTOOL: Opcode = 0x8946;

/// struct ifreq (netdevice(7)), and room for what else its union may hold.
#[repr(C)]
struct Request {
    name: [u8; 16],
    data: *mut c_void,
    rest: [u8; 16],
}

/// The memory, of which only as much is ever taken as is written to.
#[derive(Debug)]
pub(crate) struct Region(NonNull<u8>);

// SAFETY: It owns the memory, which nothing else knows of and which belongs to no thread.
unsafe impl Send for Region {}

impl Region {
    /// Far more than the statistics of any driver take.
    const LENGTH: usize = 4 << 20;
    /// As large as the largest page that Linux has on any machine that we run on.
    const GUARD: usize = 64 << 10;

    pub(crate) fn new() -> Result<Self, Errno> {
        let (all, none) = (Self::LENGTH + Self::GUARD, ProtFlags::empty());
        // SAFETY: A new mapping at a place that the kernel chooses takes nothing from anybody.
        let start =
            unsafe { mmap_anonymous(null_mut(), all, none, MapFlags::PRIVATE | MapFlags::NORESERVE) }?;
        let region = Region(NonNull::new(start.cast()).ok_or(Errno::NOMEM)?);
        let both = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: It is the front of the mapping just made, which nothing refers to yet.
        unsafe { mprotect(start, Self::LENGTH, both) }?;
        Ok(region)
    }

    /// What was written last.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: The mapping is this long and readable, began as zeros, lives as long as we do, and is written to only
        // by `ask`, for which nobody may hold this slice.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), Self::LENGTH) }
    }

    /// Asks about an interface; the numbers are what the kernel reads of it, the answer takes their place.
    pub(crate) fn ask(&mut self, socket: impl AsFd, interface: &str, numbers: &[u32]) -> Result<(), Errno> {
        let mut name = [0; 16];
        // The last byte stays zero, and the kernel knows no empty name.
        match interface.as_bytes() {
            bytes if (1..name.len()).contains(&bytes.len()) => name[..bytes.len()].copy_from_slice(bytes),
            _ => return Err(Errno::NODEV),
        }
        // SAFETY: As in `bytes`; the borrow is ours alone, and ends before the kernel writes.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), Self::LENGTH) };
        // The largest answer of a fixed size is that of the driver's names; none of it is to be of another interface.
        memory[..256].fill(0);
        for (place, number) in memory.as_chunks_mut().0.iter_mut().zip(numbers) {
            *place = number.to_ne_bytes();
        }
        self.send(socket, name, 0)
    }

    /// With the command so many bytes from the start.
    fn send(&mut self, socket: impl AsFd, name: [u8; 16], offset: usize) -> Result<(), Errno> {
        let data = self.0.as_ptr().wrapping_add(offset).cast();
        let mut request = Request { name, data, rest: [0; 16] };
        // SAFETY: SIOCETHTOOL takes a `struct ifreq`, which this is. All that the commands we know write goes to the
        // request and, from its start on, to the memory that it points to, of which they never leave the end, see above.
        let updater = unsafe { Updater::<{ SIOCETHTOOL }, Request>::new(&mut request) };
        // SAFETY: As before.
        unsafe { ioctl(socket, updater) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: It is the mapping that `new` made, to which nothing refers any more.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), Self::LENGTH + Self::GUARD) };
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    #[test]
    fn the_kernel_gets_as_far_as_the_end_and_no_further() {
        let mut region = Region::new().unwrap();
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        let mut name = [0; 16];
        name[..2].copy_from_slice(b"lo");
        // There it reads which command it is, and knows none of this number.
        let error = region.send(&socket, name, Region::LENGTH - 4).unwrap_err();
        assert_ne!(error, Errno::FAULT);
        assert_eq!(region.send(&socket, name, Region::LENGTH - 3), Err(Errno::FAULT));
        assert_eq!(region.send(&socket, name, Region::LENGTH), Err(Errno::FAULT));
        assert_eq!(region.bytes().iter().filter(|byte| **byte != 0).count(), 0);
    }
}
