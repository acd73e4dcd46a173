//! The fuzz targets on stable Rust: their seeds, and some thousand mutations of each.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_fuzz::{Random, mutate, seeds, targets};
use sanderling_protocol::{
    batch,
    blob::{BlobIndex, ChunkDecoder, ChunkError, ChunkRef},
    deployment::Deployment,
    digest::Digest,
    release::Release,
    topics::Topics,
};
use sanderling_tests::proof;

/// Mutations for each target.
const MUTATIONS: u64 = 3_000;

#[test]
fn the_targets_hold_for_seeds_and_mutations() {
    let mut cases = 0;
    for (name, target) in targets::ALL {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| target(seed));
        let mutations = proof::cases(MUTATIONS);
        for number in 0..mutations {
            let mut random = Random::new(number);
            let seed = random.of(&seeds).cloned().unwrap_or_default();
            let mutated = mutate(&seed, &seeds, &mut random);
            let held = std::panic::catch_unwind(|| target(&mutated));
            assert!(held.is_ok(), "{name}: mutation {number}: {:?}", String::from_utf8_lossy(&mutated));
        }
        cases += mutations + seeds.len() as u64;
    }
    proof::found("decoders", cases, 0, &format!("{} fuzz targets on stable Rust", targets::ALL.len()));
}

#[test]
fn every_target_has_a_program() {
    for (name, _) in targets::ALL {
        let program = format!("{}/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&program).is_file(), "{program}");
    }
}

#[test]
fn seeds_are_what_decoders_accept() {
    for seed in seeds("deployment") {
        Deployment::parse(&seed).unwrap();
    }
    for seed in seeds("release") {
        Release::parse(&serde_json::from_slice(&seed).unwrap()).unwrap();
    }
    for seed in seeds("index") {
        let (length, message) = seed.split_first_chunk().unwrap();
        BlobIndex::decode(message, u64::from_be_bytes(*length)).unwrap();
    }
    for seed in seeds("chunk") {
        let (length, message) = seed.split_first_chunk().unwrap();
        let expect = |digest| ChunkRef { digest, length: u32::from_le_bytes(*length) };
        let mut decoder = ChunkDecoder::new();
        // The seeds do not say which digest is listed; a wrong one is the last thing to be found.
        let refused = decoder.decode(message, &expect(Digest::of(b"none"))).unwrap_err();
        let ChunkError::WrongDigest { found, .. } = refused else { panic!("{refused}") };
        decoder.decode(message, &expect(found)).unwrap();
    }
    for seed in seeds("batch") {
        batch::decode(&seed).unwrap();
    }
    for seed in seeds("topic") {
        let (topics, topic) = (Topics::default(), String::from_utf8(seed).unwrap());
        assert!(topics.parse_published(&topic).is_some() || topics.parse_device(&topic).is_some(), "{topic}");
    }
}
