//! No mutated metadata is accepted: the rule is in `attack.rs` and `insider.rs`.
//!
//! Each case is made from its seed. One that fails says which; `SANDERLING_PROOF_SEED=<seed> SANDERLING_PROOF_CASES=1` makes it again.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use sanderling_fuzz::{Mutant, Random, Verdict, Walk, insider, judge, judge_insider, mutant, mutate, stored, walks};
use sanderling_protocol::tuf::Trusted;
use sanderling_tests::proof;

/// So many failures are shown.
const SHOWN: usize = 5;

/// What came of some cases.
#[derive(Default)]
struct Tally {
    kinds: BTreeMap<String, u64>,
    failures: u64,
    shown: Vec<String>,
}

impl Tally {
    fn count(&mut self, kind: impl Into<String>) {
        *self.kinds.entry(kind.into()).or_default() += 1;
    }

    fn fail(&mut self, walks: &[Walk], seed: u64, mutant: &Mutant, why: &str) {
        self.failures += 1;
        if self.shown.len() < SHOWN {
            let walk = &walks[mutant.walk];
            let role = &walk.places[mutant.place].role;
            let text = String::from_utf8_lossy(&mutant.message);
            self.shown.push(format!("seed {seed}: {role} of the refresh {}: {why}\n{text}", walk.name));
        }
    }

    fn join(mut self, other: Self) -> Self {
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.failures += other.failures;
        self.shown.extend(other.shown);
        self
    }

    fn of(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }

    /// The kinds that were met, the most frequent first.
    fn summary(&self) -> String {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    }
}

/// The first seed.
fn first() -> u64 {
    std::env::var("SANDERLING_PROOF_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Goes through `cases` seeds on all processors.
fn over(cases: u64, each: impl Fn(u64, &mut Tally) + Sync) -> Tally {
    let first = first();
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let part = |thread: u64| {
        let mut tally = Tally::default();
        (first..first + cases).filter(|seed| seed % threads == thread).for_each(|seed| each(seed, &mut tally));
        tally
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).fold(Tally::default(), Tally::join)
    })
}

fn kind_of(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

fn report(name: &str, cases: u64, tally: &Tally) {
    proof::found(name, cases, tally.failures, &tally.summary());
    assert_eq!(tally.failures, 0, "{}", tally.shown.join("\n\n"));
}

#[test]
fn no_mutated_metadata_is_accepted() {
    let walks = walks();
    let cases = proof::cases(30_000);
    let tally = over(cases, |seed, tally| {
        let mutant = mutant(&walks, seed);
        match judge(&walks, &mutant) {
            Verdict::Refused(error) => tally.count(kind_of(&error)),
            Verdict::Same => tally.count("mean what was signed"),
            Verdict::Passed => tally.count("passed over as old"),
            Verdict::Fooled(why) => tally.fail(&walks, seed, &mutant, &why),
        }
    });
    report("metadata-mutations", cases, &tally);
    if cases >= 20_000 {
        // Every check that stands before a signature was met, and so was the signature.
        for kind in [
            "TooLong",
            "WrongLength",
            "WrongDigest",
            "NotJson",
            "DuplicateField",
            "NotCanonical",
            "Malformed",
            "DuplicateSignature",
            "Threshold",
            "mean what was signed",
            "passed over as old",
        ] {
            assert!(tally.of(kind) > 0, "no case came to {kind}: {}", tally.summary());
        }
    }
}

#[test]
fn what_a_thief_of_the_right_keys_signs_is_held_to_versions_listings_and_expiry() {
    let walks = walks();
    let cases = proof::cases(10_000);
    let tally = over(cases, |seed, tally| {
        let Some(mutant) = insider(&walks, seed) else { return tally.count("cannot be signed") };
        match judge_insider(&walks, &mutant) {
            Ok(Err(error)) => tally.count(kind_of(&error)),
            Ok(Ok(())) => tally.count("taken within the rules"),
            Err(why) => tally.fail(&walks, seed, &mutant, &why),
        }
    });
    report("metadata-thief", cases, &tally);
    if cases >= 5_000 {
        for kind in [
            "NotNextRoot",
            "ListedRollback",
            "Unlisted",
            "MixAndMatch",
            "Expired",
            "WrongType",
            "UnknownSpecVersion",
            "Malformed",
            "Threshold",
            "WrongDigest",
            "taken within the rules",
        ] {
            assert!(tally.of(kind) > 0, "no case came to {kind}: {}", tally.summary());
        }
    }
}

#[test]
fn what_a_damaged_disk_gives_back_is_what_was_trusted_or_nothing() {
    let (shipped, files, trusted) = stored();
    let names: Vec<&String> = files.keys().collect();
    let all = trusted.targets_under("").unwrap();
    let cases = proof::cases(5_000);
    let tally = over(cases, |seed, tally| {
        let mut random = Random::new(seed);
        let name = random.of(&names).copied().unwrap();
        let mut damaged = files.clone();
        damaged.insert(name.clone(), mutate(&files[name], &[], &mut random));
        let restored = Trusted::restore(&shipped, &damaged).unwrap();
        let found = &restored.trusted;
        let mut wrong = Vec::new();
        for role in files.keys() {
            let (version, expires) = (found.version(role), found.expires(role));
            let same = (version, expires) == (trusted.version(role), trusted.expires(role));
            let older_root = role == "root" && version == Some(1);
            if !same && version.is_some() && !older_root {
                wrong.push(format!("{role} {version:?}"));
            }
        }
        if let Ok(targets) = found.targets_under("")
            && targets.iter().any(|target| !all.contains(target))
        {
            wrong.push("a target that nobody signed".to_owned());
        }
        if restored.refused.is_empty() && found.targets_under("").as_ref() != Ok(&all) {
            wrong.push("something is lost, and nothing is said of it".to_owned());
        }
        tally.count(restored.refused.first().map_or("means what was signed".to_owned(), |(_, error)| kind_of(error)));
        if !wrong.is_empty() {
            tally.failures += 1;
            tally.shown.push(format!("seed {seed}: {name} is damaged: {}", wrong.join(", ")));
        }
    });
    report("metadata-disk", cases, &tally);
}
