//! Writes the seeds of each fuzz target to `<folder>/<target>/`: `cargo run -p sanderling-fuzz --example seeds -- tests/fuzz/corpus`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;

use sanderling_fuzz::{seeds, targets};

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("name the folder of the corpora"));
    for (name, _) in targets::ALL {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        for (number, seed) in seeds(name).iter().enumerate() {
            std::fs::write(folder.join(name).join(format!("seed-{number}")), seed).unwrap();
        }
        println!("{name}: {} seeds", seeds(name).len());
    }
}
