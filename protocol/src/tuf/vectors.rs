//! Repositories that python-tuf made (`testdata/python-tuf`), taken in by the refresh.

use std::collections::BTreeMap;

use super::*;

const NOW: i64 = 1_800_000_000;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        BTreeMap::from([$(($name, include_bytes!(concat!("../../testdata/python-tuf/", $name, ".json")).to_vec())),*])
    };
}

type Files = BTreeMap<&'static str, Vec<u8>>;

fn repository() -> Files {
    files!["1.root", "2.root", "timestamp", "1.snapshot", "1.targets", "1.releases", "1.deployments"]
}

fn bins() -> Files {
    files!["bins/1.root", "bins/timestamp", "bins/1.snapshot", "bins/1.targets", "bins/1.bin-07", "bins/1.bin-12",]
}

/// Drives a refresh; returns the names that were asked for.
fn drive(refresh: &mut Refresh, files: &Files, folder: &str) -> Result<Vec<String>, TrustError> {
    let mut asked = Vec::new();
    while let Step::Fetch(spec) = refresh.next() {
        let name = spec.version.map_or(spec.role.clone(), |version| format!("{version}.{}", spec.role));
        asked.push(name.clone());
        match files.get(format!("{folder}{name}").as_str()) {
            Some(bytes) => {
                assert!(bytes.len() as u64 <= spec.max_length, "{name}");
                refresh.supply(bytes)?;
            }
            None => refresh.absent()?,
        }
    }
    Ok(asked)
}

fn refreshed() -> Trusted {
    let files = repository();
    let mut refresh = Refresh::start(Trusted::from_root(&files["1.root"]).unwrap(), NOW);
    let asked = drive(&mut refresh, &files, "").unwrap();
    let expected = ["2.root", "3.root", "timestamp", "1.snapshot", "1.targets", "1.releases", "1.deployments"];
    assert_eq!(asked, expected);
    refresh.finish()
}

#[test]
fn takes_in_a_whole_repository() {
    let trusted = refreshed();
    assert!(trusted.is_current() && trusted.is_complete());
    assert_eq!(trusted.version("root"), Some(2));
    assert_eq!(trusted.version("deployments"), Some(1));
    assert_eq!(trusted.first_expiry().1, 2_208_988_800);
    let (file, role) = trusted.target("modules/defect/1.0.0.wasm").unwrap().unwrap();
    assert_eq!(role, "releases");
    file.verify("module", b"\0asm").unwrap();
    assert_eq!(file.sha256(), Some(crate::digest::Digest::of(b"\0asm")));
    assert_eq!(file.custom.as_ref().unwrap()["sanderling"]["kind"], "module");
    assert_eq!(trusted.root().other["x-note"], "kept \u{e9} \"quoted\" \\ back\n");
}

#[test]
fn a_role_is_not_believed_outside_of_its_paths() {
    let trusted = refreshed();
    assert_eq!(trusted.target("deployments/stolen").unwrap(), None);
    let under: Vec<_> = trusted.targets_under("deployments/").unwrap().into_iter().map(|t| (t.path, t.role)).collect();
    assert_eq!(under, [("deployments/line-a", "deployments")]);
    assert_eq!(trusted.targets_under("").unwrap().len(), 3);
}

#[test]
fn survives_a_restart_and_then_fetches_no_more_than_it_must() {
    let trusted = refreshed();
    let stored: BTreeMap<String, Vec<u8>> =
        trusted.files().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
    assert_eq!(stored.len(), 6);
    let files = repository();
    let restored = Trusted::restore(&files["1.root"], &stored).unwrap();
    assert_eq!(restored.refused, []);
    assert_eq!(restored.trusted.version("root"), Some(2));
    assert_eq!(restored.trusted.targets_under("").unwrap(), trusted.targets_under("").unwrap());
    assert!(restored.trusted.is_complete());
    let mut less = stored.clone();
    less.remove("deployments");
    let less = Trusted::restore(&files["1.root"], &less).unwrap();
    assert!(less.refused.is_empty() && !less.trusted.is_complete(), "a role is missing, and nothing says so but this");
    let mut refresh = Refresh::start(restored.trusted, NOW);
    assert_eq!(drive(&mut refresh, &files, "").unwrap(), ["3.root", "timestamp"]);
}

#[test]
fn loads_only_the_bin_that_a_path_falls_into() {
    let files = bins();
    for (path, bin) in [("models/a", "1.bin-07"), ("models/b", "1.bin-12")] {
        let trusted = Trusted::from_root(&files["bins/1.root"]).unwrap();
        let mut refresh = Refresh::start_for(trusted, path, NOW);
        let asked = drive(&mut refresh, &files, "bins/").unwrap();
        assert!(asked.len() == 5 && files.contains_key(format!("bins/{}", asked[4]).as_str()), "{bin}: {asked:?}");
        let trusted = refresh.finish();
        let (file, role) = trusted.target(path).unwrap().unwrap();
        assert_eq!(format!("1.{role}"), asked[4]);
        file.verify(path, path.as_bytes()).unwrap();
    }
}

#[test]
fn no_single_flipped_byte_is_accepted() {
    for (name, bytes) in repository() {
        let mut mutated = bytes.clone();
        // Every 7th byte, each with two flips, and the places differ from file to file.
        for at in (name.len()..bytes.len()).step_by(7) {
            for flip in [0x01, 0x20] {
                mutated[at] ^= flip;
                check_mutation(name, &bytes, &mutated, at);
                mutated[at] ^= flip;
            }
        }
    }
}

/// A mutation is refused, or it changed nothing that is signed (white space, a field beside `signed`, a signature that is
/// not needed) and the result means the same.
fn check_mutation(name: &'static str, original: &[u8], mutated: &[u8], at: usize) {
    let mut files = repository();
    files.insert(name, mutated.to_vec());
    let Ok(trusted) = Trusted::from_root(&files["1.root"]) else { return };
    let mut refresh = Refresh::start(trusted, NOW);
    if drive(&mut refresh, &files, "").is_err() {
        return;
    }
    let signed = |bytes: &[u8]| verify::Envelope::parse("", bytes).map(|envelope| envelope.canonical_bytes().to_vec());
    assert_eq!(signed(original), signed(mutated), "{name} at {at}");
}
