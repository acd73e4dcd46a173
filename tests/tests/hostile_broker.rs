//! A broker that is not to be trusted: it holds a valid certificate, sees every packet, and does with them what it likes.
//!
//! Each case is one attack that a seed decides. Whatever is sent: the agent stays, what runs runs on, versions never fall, nothing
//! is taken that the fleet did not sign, memory and disk are bounded, and the honest version arrives afterwards in the same process.

#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, reason = "what is cut off is as hostile as the rest")]

mod hostile;

use hostile::{
    Ground,
    content::{self, CHANGES},
    floods, packets,
};
use sanderling_tests::{Dice, proof};

type Attack = fn(&mut Ground, &mut Dice);

const ATTACKS: [(&str, Attack); 15] = [
    ("content withheld", content::withheld),
    ("old content replayed", content::replayed),
    ("absurd CONNACK", packets::connack),
    ("junk packets", packets::junk),
    ("unasked answers", packets::unasked),
    ("misformed PUBLISH", packets::misformed),
    ("oversize packets", packets::oversize),
    ("no answers", packets::unanswered),
    ("wrong answers", packets::misanswered),
    ("torn packets", packets::torn),
    ("flood of messages", floods::messages),
    ("flood of honest metadata", floods::honest),
    ("flood that leads nowhere", floods::leading_nowhere),
    ("flood of small packets", floods::small_packets),
    ("flood of properties", floods::properties),
];

/// Attacks `number` in the order of the two tables, so that a few cases meet each of them.
fn strike(ground: &mut Ground, number: u64) -> &'static str {
    let mut dice = Dice::new(number);
    let at = usize::try_from(number).unwrap() % (CHANGES.len() + ATTACKS.len());
    if let Some((name, change)) = CHANGES.get(at) {
        content::changed(ground, &mut dice, *change);
        return name;
    }
    let (name, attack) = ATTACKS[at - CHANGES.len()];
    attack(ground, &mut dice);
    name
}

#[test]
fn whatever_a_broker_sends_nothing_is_taken_and_the_honest_version_arrives_afterwards() {
    let cases = proof::cases(26);
    let first = std::env::var("SANDERLING_PROOF_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut ground = Ground::new();
    let mut failures = Vec::new();
    for number in first..first + cases {
        let name = strike(&mut ground, number);
        let held = ground.check().and_then(|()| ground.recover()).and_then(|()| ground.check());
        if let Err(why) = held {
            eprintln!("case {number}, {name}: {why}");
            failures.push((number, name, why));
            // What one attack has left must not count against the next.
            if failures.len() >= 5 || !ground.agent.is_running() {
                break;
            }
        }
        if number % 26 == 25 {
            // An honest update, as if nothing had happened.
            ground.publish_next();
            ground.recover().unwrap_or_else(|why| failures.push((number, "honest update", why)));
        }
    }
    let note = format!(
        "{} honest versions between them; memory at most {} KiB above the idle {} KiB, disk {} KiB more",
        ground.versions(),
        ground.gained() / 1024,
        ground.idle() / 1024,
        ground.disk_gained() / 1024,
    );
    proof::found("hostile-broker", cases, failures.len() as u64, &note);
    assert!(failures.is_empty(), "{failures:#?}");
}
