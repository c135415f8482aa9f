//! Asks the kernel to begin writing dirty pages now, so that the next fsync finds little left to do.

use std::fs::File;

/// Starts write-back of `len` bytes at `offset` and does not wait for it. A hint: failure has no consequence.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn begin(file: &File, offset: u64, len: usize) {
    use std::ffi::{c_int, c_uint};
    use std::os::fd::AsRawFd;

    /// From `linux/fs.h`; rustix does not offer the call.
    const SYNC_FILE_RANGE_WRITE: c_uint = 2;
    unsafe extern "C" {
        fn sync_file_range(fd: c_int, offset: i64, nbytes: i64, flags: c_uint) -> c_int;
    }

    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, the call takes no pointers and changes no
    // memory of this process. glibc and musl both declare the offsets as 64 bits wide.
    let _ = unsafe { sync_file_range(file.as_raw_fd(), offset, len, SYNC_FILE_RANGE_WRITE) };
}

/// Elsewhere the kernel decides alone.
#[cfg(not(target_os = "linux"))]
pub(super) fn begin(_file: &File, _offset: u64, _len: usize) {}
