//! Flash that gives back something else than was written: one file of a stopped device is damaged, and the agent runs all the
//! same, ends on the wanted deployment, counts what it found, and takes the next update.
//!
//! Cases go through all files of the state directory in turn; what is done to them follows from the case's number alone.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sanderling_protocol::{digest::Digest, reported::Reported};
use sanderling_tests::{Ground, lanes::go_through, proof, unix_nanos};

/// Cases of the short form.
const SHORT: u64 = 24;
/// Records of a version that show that it runs.
const TICKS: usize = 2;
/// Blocks of flash that are lost as a whole.
const BLOCK: usize = 512;

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A bit is another.
    Flip { at: usize, bit: u32 },
    /// The block here is nothing but ones, as erased flash reads.
    Erase { at: usize },
    /// It ends here.
    Cut { at: usize },
    /// It goes on with these bytes.
    Append { bytes: usize },
    /// It is gone.
    Remove,
}

#[derive(Clone, Debug)]
struct Case {
    file: PathBuf,
    damage: Damage,
}

/// What came of it.
struct Found {
    kind: String,
    /// The database was set aside.
    aside: bool,
    /// Blobs were pulled again.
    pulled: bool,
}

#[test]
fn a_damaged_file_is_refused_or_rebuilt_and_the_device_runs_what_it_should() {
    let ground = Ground::new();
    ground.reset();
    let files = files(ground.state());
    let names: Vec<String> = files.iter().map(|(file, _)| kind(file)).collect();
    for needed in ["state.redb", "blobs/<digest>", "blobs/<digest>.index"] {
        assert!(names.iter().any(|name| name == needed), "{needed} is not among {names:?}");
    }
    let cases: Vec<Case> = (0..proof::cases(SHORT)).map(|number| Case::of(number, &files)).collect();
    let (found, failed) = go_through(&ground, &cases, damage);
    let mut counts = BTreeMap::<&str, [usize; 3]>::new();
    for one in &found {
        let [all, aside, pulled] = counts.entry(&one.kind).or_default();
        *all += 1;
        *aside += usize::from(one.aside);
        *pulled += usize::from(one.pulled);
    }
    for (kind, [all, aside, pulled]) in &counts {
        println!(
            "{kind}: damaged {all} times; {aside} times the database was set aside, {pulled} times blobs were pulled again"
        );
    }
    let note = format!("{} files of {} kinds", files.len(), counts.len());
    proof::found("bit-flips-agent", cases.len() as u64, failed.len() as u64, &note);
    assert_eq!(failed, Vec::<String>::new());
}

impl Case {
    /// Files in turn; the database, which holds most, at every second case.
    fn of(number: u64, files: &[(PathBuf, usize)]) -> Self {
        let mut random = Random(number);
        let turn = usize::try_from(number / 2).unwrap() % files.len();
        let database = files.iter().find(|(file, _)| kind(file) == "state.redb");
        let (file, length) = if number.is_multiple_of(2) { database.unwrap() } else { &files[turn] };
        let at = random.below(*length);
        let damage = match random.below(10) {
            0 => Damage::Remove,
            1 => Damage::Append { bytes: 1 + random.below(5000) },
            2 | 3 => Damage::Cut { at },
            4 | 5 => Damage::Erase { at },
            _ => Damage::Flip { at, bit: u32::try_from(random.below(8)).unwrap() },
        };
        Self { file: file.clone(), damage }
    }
}

impl Damage {
    fn apply(self, file: &Path) {
        // What waited in the outbox when the device was stopped is not the same in every lane.
        let outbox = file.parent().is_some_and(|folder| folder.ends_with("outbox"));
        if outbox && !file.exists() {
            return;
        }
        let mut bytes = fs::read(file).unwrap();
        // A database is not as long in every lane.
        let length = bytes.len().max(1);
        let place = |at: usize| at % length;
        match self {
            Self::Flip { at, bit } => {
                let at = place(at);
                bytes[at] ^= 1 << bit;
            }
            Self::Erase { at } => {
                let from = place(at) / BLOCK * BLOCK;
                bytes.iter_mut().skip(from).take(BLOCK).for_each(|byte| *byte = 0xff);
            }
            Self::Cut { at } => bytes.truncate(place(at)),
            Self::Append { bytes: more } => bytes.extend(std::iter::repeat_n(0xa5, more)),
            Self::Remove => return fs::remove_file(file).unwrap(),
        }
        fs::write(file, bytes).unwrap();
    }
}

/// Knuth's linear congruential generator: the same case does the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(1).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

fn damage(ground: &Ground, case: &Case) -> Found {
    let observer = &ground.site.observer;
    ground.reset();
    case.damage.apply(&ground.state().join(&case.file));
    let (mark, started) = (observer.mark(), unix_nanos());
    let mut agent = ground.device.start();
    ground.wait_runs(&ground.a, mark, started, TICKS);
    let aside = fs::read_dir(ground.state()).unwrap().any(|entry| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().starts_with("state.redb.damaged")
    });
    ground.assert_whole(&ground.a);
    if aside {
        let told = |report: &Reported| report.storage.damaged.databases > 0;
        observer.wait_report(&ground.device.id, "a damaged database that is counted", told);
    }
    if case.file == ground.artifact_of(&ground.a) && !matches!(case.damage, Damage::Remove) {
        observer.wait_report(&ground.device.id, "a damaged blob that is counted", |report| {
            report.storage.damaged.blobs > 0
        });
    }
    let pulled = !ground.pulled().chunks.is_empty();
    ground.publish(&ground.b);
    ground.wait_runs(&ground.b, mark, started, TICKS);
    assert!(agent.is_running(), "the agent ended");
    agent.kill();
    ground.assert_whole(&ground.b);
    Found { kind: kind(&case.file), aside, pulled }
}

/// The files below a folder with their lengths, by name.
fn files(folder: &Path) -> Vec<(PathBuf, usize)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(folder).unwrap().to_owned();
                found.push((inside, usize::try_from(metadata.len()).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The name of a file with digests left out.
fn kind(file: &Path) -> String {
    let plain = |part: &str| if part.parse::<Digest>().is_ok() { "<digest>".to_owned() } else { part.to_owned() };
    let text = file.to_str().unwrap();
    text.split('/').map(|level| level.split('.').map(plain).collect::<Vec<_>>().join(".")).collect::<Vec<_>>().join("/")
}
