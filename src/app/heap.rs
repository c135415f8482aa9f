//! How the heap returns memory to the system.
//!
//! Files pass through the heap in pieces of a megabyte. By default glibc returns each to the system as it is freed and
//! takes it back a moment later, page by page, which costs a fill a sixth of its processor time. So what a fill has
//! used stays, up to a bound. Each arena that threads allocate from keeps its own; two are enough for what allocates
//! large pieces, and keep the sum small.

/// Bytes at the end of the heap that stay; more are returned.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 64 << 20;
/// Allocations of at least this size are returned at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const DIRECT: i32 = 32 << 20;
/// Parts of the heap that threads allocate from.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;

/// Sets that up. To be called before threads are started. Elsewhere than with glibc nothing changes.
#[allow(unsafe_code)]
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;

        /// From `malloc.h`.
        const M_TRIM_THRESHOLD: c_int = -1;
        const M_MMAP_THRESHOLD: c_int = -3;
        const M_ARENA_MAX: c_int = -8;
        unsafe extern "C" {
            fn mallopt(param: c_int, value: c_int) -> c_int;
        }
        for (param, value) in [(M_TRIM_THRESHOLD, KEPT), (M_MMAP_THRESHOLD, DIRECT), (M_ARENA_MAX, ARENAS)] {
            // SAFETY: mallopt(3) takes two numbers, and the allocator checks them itself; what it refuses stays as it
            // is.
            let _ = unsafe { mallopt(param, value) };
        }
    }
}
