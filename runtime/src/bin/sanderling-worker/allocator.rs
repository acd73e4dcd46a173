//! The system's allocator, which tells the supervisor of what it refused.
//!
//! A worker whose address space is used up aborts, or panics, wherever the allocation was made: in the interpreter, in tract, in a decoder. None of
//! them can say why in a message, since that would need memory. So the size of what was refused is noted in the frame ring, which outlives the process.
//! It counts for the call in which it happened: [`forget`] is called before each.

#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::OnceLock,
};

use sanderling_protocol::worker::{Fault, FaultCode, ring::Refused};

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// Where it is noted, once the ring is mapped.
static REFUSED: OnceLock<Refused> = OnceLock::new();

struct Noting;

// SAFETY: everything is the system's allocator; what is noted allocates nothing.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        noted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        noted(unsafe { System.realloc(memory, layout, size) }, size)
    }
}

fn noted(memory: *mut u8, size: usize) -> *mut u8 {
    if memory.is_null()
        && let Some(refused) = REFUSED.get()
    {
        refused.note(u64::try_from(size).unwrap_or(u64::MAX));
    }
    memory
}

/// Keeps the C library from making a second heap when the first is full, which it does in a way that the confinement forbids: it counts the
/// processors, and changes the protection of memory.
pub(crate) fn keep_to_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a setting of glibc's allocator, which is the one in use; there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// From now on what is refused is noted there.
pub(crate) fn note_in(refused: Refused) {
    // It is called once; a second place would be ignored.
    let _ = REFUSED.set(refused);
}

/// A call of the guest begins: what was refused before has nothing to do with it.
pub(crate) fn forget() {
    if let Some(refused) = REFUSED.get() {
        refused.forget();
    }
}

/// What came of an allocation that was refused in the same call is want of memory.
pub(crate) fn explain(fault: Fault) -> Fault {
    let follows = matches!(fault.code, FaultCode::Init | FaultCode::Trap | FaultCode::Guest);
    match REFUSED.get().and_then(Refused::last).filter(|_| follows) {
        Some(bytes) => Fault {
            code: FaultCode::NativeMemory,
            message: format!(
                "{}; before that an allocation of {bytes} bytes was refused: raise `native_memory_mib`",
                fault.message
            ),
            ..fault
        },
        None => fault,
    }
}
