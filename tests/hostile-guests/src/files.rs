//! The guests that are texts, in `guests/`.
//!
//! A text begins with comments: a sentence on what it tries, then `ends:` and where needed `limits:` and `grants:`.

use std::{fs, path::Path};

use sanderling_protocol::deployment::Limits;

use crate::Guest;

/// All of them, by name.
pub fn guests() -> Vec<Guest> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "wat")).map(|file| read(file)).collect()
}

fn read(file: &Path) -> Guest {
    let name = file.file_stem().unwrap().to_string_lossy();
    let text = fs::read_to_string(file).unwrap();
    let module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut guest = Guest::new(&name, "", module, "survives");
    for line in text.lines().map_while(|line| line.strip_prefix(";; ")) {
        match line.split_once(": ") {
            Some(("ends", end)) => guest.end = end.parse().unwrap_or_else(|error| panic!("{name}: {error}")),
            Some(("limits", limits)) => limits.split(", ").for_each(|limit| set(&mut guest.limits, limit)),
            Some(("grants", grants)) => guest.grants = grants.split(", ").map(str::to_owned).collect(),
            _ if guest.tries.is_empty() => guest.tries = line.to_owned(),
            _ => guest.tries = format!("{} {line}", guest.tries),
        }
    }
    guest
}

fn set(limits: &mut Limits, text: &str) {
    let (name, value) = text.split_once(' ').unwrap_or_else(|| panic!("{text:?} is no limit"));
    let value: u64 = value.parse().unwrap();
    match name {
        "fuel_per_frame" => limits.fuel_per_frame = value,
        "deadline_ms" => limits.deadline_ms = u32::try_from(value).unwrap(),
        "emit_per_s" => limits.emit_per_s = u32::try_from(value).unwrap(),
        other => panic!("no guest sets the limit {other:?}"),
    }
}
