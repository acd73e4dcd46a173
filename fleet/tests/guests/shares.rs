//! A guest that shares a hundred among as many as the first byte of a frame says, and has no answer for none. It is small enough to be
//! built by the compiler alone.

#![no_std]
#![no_main]

use core::hint::black_box;

#[link(wasm_import_module = "sanderling_v1")]
unsafe extern "C" {
    fn frame_read(offset: i32, ptr: *mut u8, len: i32) -> i32;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

#[inline(always)]
fn share(whole: u32, among: u32) -> u32 {
    whole / among // the marked line
}

#[inline(never)]
fn weighs(among: u8) -> u32 {
    black_box(share(100, among.into()))
}

#[unsafe(no_mangle)]
extern "C" fn sanderling_abi() -> i32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn sanderling_frame() -> i32 {
    let mut first = 0;
    // SAFETY: the host writes one byte, which is there.
    unsafe { frame_read(0, &mut first, 1) };
    black_box(weighs(first));
    0
}
