//! Gives the agent its build time, the lowest date that it believes (see `src/clock.rs`).

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

// The one program beside `clock.rs` that may ask for the time: it runs on the developer's machine.
#[allow(clippy::disallowed_methods)]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let time = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or_else(now);
    println!("cargo::rustc-env=SANDERLING_BUILD_TIME={time}");
}
