//! Proofs in two lengths: short within `cargo xtask test`, long when `cargo xtask prove` asks for more.

/// The environment variable by which `cargo xtask prove` asks for the long form.
pub const CASES: &str = "SANDERLING_PROOF_CASES";

/// How many cases to go through: what [`CASES`] says, or `short`.
pub fn cases(short: u64) -> u64 {
    std::env::var(CASES).ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// Prints what a proof found, one line that `cargo xtask prove` reads: its name, how many cases it went through, how many
/// of them failed, and what else there is to say.
#[allow(clippy::print_stdout, reason = "the result that the caller reads")]
pub fn found(name: &str, cases: u64, failures: u64, note: &str) {
    println!("proof: {name} | {cases} cases | {failures} failures | {note}");
}
