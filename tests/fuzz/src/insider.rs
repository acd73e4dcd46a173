//! What a thief of a role's own keys signs: everything is signed as it must be, and still some things must not pass.
//!
//! The rule: versions never fall, what was listed stays listed, a version is the one that is listed, nothing that is expired or
//! of another type is taken, and where a digest is listed no other bytes are.

use sanderling_protocol::tuf::{Refresh, TrustError, author::add_signatures};
use serde_json::{Value, json};

use crate::{
    Mutant, Random, Walk,
    keys::{holder, signers},
    mutate::mutate_json,
    repository::{OLD, WITHOUT_DIGESTS},
};

/// [`crate::NOW`] as metadata writes it.
const NOW_TEXT: &str = "2030-03-17T17:46:40Z";

/// A message of one of our own repositories, changed and signed anew by those who may. `None` where the change cannot be signed.
pub fn insider(walks: &[Walk], seed: u64) -> Option<Mutant> {
    let mut random = Random::new(seed);
    let random = &mut random;
    let walk = if random.once_in(4) { 0 } else { WITHOUT_DIGESTS };
    let places: Vec<usize> =
        (0..walks[walk].places.len()).filter(|at| walks[walk].places[*at].message.is_some()).collect();
    let place = *random.of(&places)?;
    let mut value: Value = serde_json::from_slice(walks[walk].places[place].message.as_ref()?).ok()?;
    for _ in 0..random.few(2) {
        mutate_json(&mut value["signed"], &[], random);
    }
    value["signatures"] = json!([]);
    let own = holder::of(&walks[walk].places[place].role);
    let message = add_signatures(&serde_json::to_vec(&value).ok()?, &signers(own)).ok()?;
    Some(Mutant { walk, place, message })
}

/// Gives the client what an insider signed.
///
/// # Errors
/// Which rule was broken.
pub fn judge_insider(walks: &[Walk], mutant: &Mutant) -> Result<Result<(), TrustError>, String> {
    let walk = &walks[mutant.walk];
    let place = &walk.places[mutant.place];
    let mut refresh = place.before.clone();
    let taken = refresh.supply(&mutant.message);
    let floors = |refresh: &Refresh| ["root", "timestamp", "snapshot"].map(|role| refresh.trusted().version(role));
    let (before, after) = (floors(&place.before), floors(&refresh));
    // A root that takes a key away from timestamp or snapshot takes their floors with it (section 5.3.11).
    let fell =
        |(before, after): (&Option<u64>, &Option<u64>)| after < before && !(place.role == "root" && after.is_none());
    if before.iter().zip(&after).any(fell) {
        return Err(format!("versions fell from {before:?} to {after:?}"));
    }
    let unchanged = refresh.trusted().files().eq(place.before.trusted().files());
    // What was taken before the refresh found that it cannot go on was taken all the same.
    if let Err(error) = taken
        && unchanged
    {
        return Ok(Err(error));
    }
    if place.role == "timestamp" && unchanged {
        return Ok(Ok(()));
    }
    if place.exact && Some(&mutant.message) != place.message.as_ref() {
        return Err("a digest of it is listed, and these are other bytes".into());
    }
    let value: Value = serde_json::from_slice(&mutant.message).map_err(|error| error.to_string())?;
    check(walk, mutant.place, &value["signed"])?;
    Ok(Ok(()))
}

fn check(walk: &Walk, at: usize, signed: &Value) -> Result<(), String> {
    let role = walk.places[at].role.as_str();
    let kind = if matches!(role, "root" | "timestamp" | "snapshot") { role } else { "targets" };
    if signed["_type"] != kind || !signed["spec_version"].as_str().is_some_and(|version| version.starts_with("1.")) {
        return Err(format!("type or specification is not the role's: {signed}"));
    }
    // Only the last root must be fresh, and what it is used for comes behind it.
    let expires = signed["expires"].as_str().ok_or("there is no expiry")?;
    if role != "root" && (expires.len() != NOW_TEXT.len() || expires <= NOW_TEXT) {
        return Err(format!("it expired at {expires}"));
    }
    let version = signed["version"].as_u64().filter(|version| *version > 0).ok_or("there is no version")?;
    match role {
        "root" if version != 2 => Err(format!("root {version} follows root 1")),
        "timestamp" if version <= OLD => Err(format!("timestamp {version} follows {OLD}")),
        "snapshot" => {
            let listed = listed(walk, "timestamp", "snapshot");
            if listed != Some(version) {
                return Err(format!("snapshot {version} where {listed:?} is listed"));
            }
            let lists = |role: &str| signed["meta"][format!("{role}.json")]["version"].as_u64();
            let kept = ["targets", "releases", "deployments"].into_iter().all(|role| lists(role) >= Some(OLD));
            if kept { Ok(()) } else { Err("it lists less than the snapshot before it".into()) }
        }
        "root" | "timestamp" => Ok(()),
        role => {
            let listed = listed(walk, "snapshot", role);
            if listed == Some(version) { Ok(()) } else { Err(format!("{role} {version} where {listed:?} is listed")) }
        }
    }
}

fn listed(walk: &Walk, lister: &str, role: &str) -> Option<u64> {
    let message = walk.places.iter().find(|place| place.role == lister)?.message.as_ref()?;
    let value: Value = serde_json::from_slice(message).ok()?;
    value["signed"]["meta"][format!("{role}.json")]["version"].as_u64()
}
