//! Gives memory back that only a program's beginning needed, so that a gateway with little of it has it for others.
//!
//! Preparing a model runs most of tract once, and connecting most of TLS: megabytes of a program's own code and constants that
//! are not touched again for long. The kernel would keep them mapped until memory is short. Dropped from the process, they
//! stay in the page cache, where they are the first to go; what is needed comes back at its first touch, sixteen pages at a
//! time.
//!
//! Where it fails nothing is lost but the saving, so that there is no error to report.

#![deny(missing_docs)]
#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_void},
    ptr::{null_mut, with_exposed_provenance_mut},
    slice,
};

use rustix::mm::{Advice, madvise};

/// Drops this program's unwritten pages and the free ends of the heap.
pub fn give_back() {
    // SAFETY: the callback has the type that is asked for and keeps nothing of what it is shown.
    unsafe { libc::dl_iterate_phdr(Some(drop_read_only), null_mut()) };
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's allocator, which is the one in use, may be trimmed at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Drops the segments of the program that can be read from its file again. It comes before the libraries, which others share;
/// 1 ends the walk there.
unsafe extern "C" fn drop_read_only(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the loader calls this with a valid description of a loaded object.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr as usize, slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            drop_pages(base.wrapping_add(header.p_vaddr as usize), header.p_memsz as usize);
        }
    }
    1
}

/// Drops the whole pages within a segment that is mapped from a file and never written.
fn drop_pages(start: usize, length: usize) {
    // SAFETY: it reads what the loader was told, and no file: this may run confined.
    let Ok(page) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) else { return };
    let (first, end) = (start.next_multiple_of(page), start.wrapping_add(length) & !(page - 1));
    if let Some(length) = end.checked_sub(first).filter(|length| *length > 0) {
        // SAFETY: the range lies within one segment of this program without PF_W: position-independent code has no
        // relocations there, so that its pages are those of the file, and reading it maps them again.
        let _ = unsafe { madvise(with_exposed_provenance_mut(first), length, Advice::LinuxDontNeed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of this program's own code is resident, in KiB.
    fn resident_code() -> u64 {
        let program = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut own = false;
        let mut sum = 0;
        for line in maps.lines() {
            if line.contains('-') && !line.contains("kB") {
                own = line.contains(" r-xp ") && line.ends_with(program.to_str().unwrap());
            } else if let (true, Some(size)) = (own, line.strip_prefix("Rss:")) {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        sum
    }

    /// Enough of code to be seen.
    fn work() {
        let lines: Vec<String> =
            (0..100).map(|at| format!("{:?} {:e}", std::thread::current(), f64::from(at))).collect();
        std::hint::black_box(lines);
    }

    #[test]
    fn what_was_run_once_is_resident_no_more_and_runs_again() {
        work();
        let before = resident_code();
        give_back();
        let after = resident_code();
        assert!(after < before, "{before} KiB before, {after} KiB after");
        work();
    }
}
