//! See `sanderling_fuzz::targets::batch`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sanderling_fuzz::targets::batch(bytes));

#[cfg(not(fuzzing))]
fn main() {
    sanderling_fuzz::targets::replay(sanderling_fuzz::targets::batch);
}
