//! What an attacker makes of a message, and whether the client falls for it.
//!
//! The rule: a mutated message is accepted only if what it says is what was signed. White space, escapes and the order of fields
//! are no part of what is signed, nor are signatures that are not needed; where a digest is listed, every byte is.

use sanderling_protocol::tuf::{Refresh, TrustError, author::add_signatures};
use serde_json::{Value, json};

use crate::{
    Random, Walk,
    keys::signers,
    mutate::{Style, mutate, mutate_json, write},
    repository::WITHOUT_DIGESTS,
};

/// A mutated message.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// Number of the refresh among [`crate::walks`].
    pub walk: usize,
    /// Number of the message in it.
    pub place: usize,
    /// The bytes that the client is given.
    pub message: Vec<u8>,
}

/// What the client made of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It refused it.
    Refused(TrustError),
    /// It took it, and it says what was signed.
    Same,
    /// It took it as an old one, and trusts what it trusted before.
    Passed,
    /// It took what nobody signed. The reason why this is sure.
    Fooled(String),
}

/// The mutant of this seed.
pub fn mutant(walks: &[Walk], seed: u64) -> Mutant {
    let mut random = Random::new(seed);
    let random = &mut random;
    // Half of them where no digest is listed: elsewhere most mutations end at a length that is not the listed one.
    let at = if random.once_in(2) { WITHOUT_DIGESTS } else { random.below(walks.len()) };
    let walk = &walks[at];
    let signed: Vec<usize> = (0..walk.places.len()).filter(|at| walk.places[*at].message.is_some()).collect();
    let place = *random.of(&signed).unwrap();
    let original = walk.places[place].message.clone().unwrap();
    let stolen = &walk.places[place].stolen;
    let message = match random.below(10) {
        // Another message, whole: of another role, or of an earlier version.
        0 => {
            let mut message = random.of(&walk.others).cloned().unwrap_or_default();
            if random.once_in(4) {
                message = mutate(&message, &walk.others, random);
            }
            message
        }
        1 | 2 => forge_signatures(&original, &walk.others, random),
        3 | 4 => resign(&original, stolen, &walk.others, random),
        _ => mutate(&original, &walk.others, random),
    };
    Mutant { walk: at, place, message }
}

/// Gives the client the mutant in place of the message.
pub fn judge(walks: &[Walk], mutant: &Mutant) -> Verdict {
    let walk = &walks[mutant.walk];
    let place = &walk.places[mutant.place];
    let original = place.message.as_ref().unwrap();
    let mut refresh = place.before.clone();
    let keeps = |refresh: &Refresh| refresh.trusted().files().eq(place.before.trusted().files());
    if let Err(error) = refresh.supply(&mutant.message) {
        return if keeps(&refresh) && refresh.next() == place.before.next() {
            Verdict::Refused(error)
        } else {
            Verdict::Fooled(format!("it was refused ({error}), but changed what is trusted or awaited"))
        };
    }
    if place.role == "timestamp" && keeps(&refresh) {
        return Verdict::Passed;
    }
    if place.exact && mutant.message != *original {
        return Verdict::Fooled("a digest of it is listed, and these are other bytes".into());
    }
    match (signed_part(&mutant.message), signed_part(original)) {
        (Some(mutated), Some(original)) if mutated == original => {}
        (mutated, _) => return Verdict::Fooled(format!("what it says is not what was signed: {mutated:?}")),
    }
    match walk.finish(mutant.place, refresh) {
        Ok(end) if end == walk.end => Verdict::Same,
        Ok(end) => Verdict::Fooled(format!("it led to something else: {end}")),
        Err(error) => Verdict::Fooled(format!("the refresh did not end as it does with what was signed: {error}")),
    }
}

/// What is signed, if the message has no field twice: a check of its own, apart from the client's.
fn signed_part(message: &[u8]) -> Option<Value> {
    fn held(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(held).sum(),
            Value::Object(fields) => fields.len() + fields.values().map(held).sum::<usize>(),
            _ => 0,
        }
    }
    let value: Value = serde_json::from_slice(message).ok()?;
    let (mut written, mut within, mut escaped) = (0, false, false);
    for byte in message {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => within = !within,
            b':' if !within => written += 1,
            _ => {}
        }
    }
    (written == held(&value)).then(|| value["signed"].clone())
}

/// Changes what is signed or not, and then the signatures: none, false ones, those of other messages, one many times.
fn forge_signatures(original: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(original).unwrap();
    if random.once_in(2) {
        mutate_json(&mut value["signed"], &[], random);
    }
    let donated = random.of(others).and_then(|other| serde_json::from_slice::<Value>(other).ok());
    let mut signatures = value["signatures"].as_array().cloned().unwrap_or_default();
    let donated = donated.and_then(|donor| donor["signatures"].as_array().cloned()).unwrap_or_default();
    for _ in 0..random.few(3) {
        let (one, two) = (random.below(signatures.len()), random.below(signatures.len()));
        match random.below(9) {
            0 if !signatures.is_empty() => drop(signatures.remove(one)),
            1 => signatures.extend(signatures.get(one).cloned()),
            2 => signatures.extend(donated.iter().cloned()),
            3 => signatures = donated.clone(),
            // The signature of one key under the id of another.
            4 => {
                let id = signatures.get(two).map(|signature| signature["keyid"].clone());
                set(signatures.get_mut(one), "keyid", id.unwrap_or_default());
            }
            5 => set(signatures.get_mut(one), "sig", "00".repeat(random.few(72)).into()),
            6 => {
                let text = signatures.get(one).and_then(|signature| signature["sig"].as_str()).unwrap_or_default();
                let other = plus_order(text);
                set(signatures.get_mut(one), "sig", other.into());
            }
            7 => signatures.push(json!({ "keyid": "0".repeat(64), "sig": "" })),
            _ => {
                if let Some(signature) = signatures.get_mut(one) {
                    mutate_json(signature, &[], random);
                }
            }
        }
    }
    value["signatures"] = signatures.into();
    let style = Style::any(random);
    write(&value, style, random).into_bytes()
}

fn set(signature: Option<&mut Value>, field: &str, value: Value) {
    if let Some(fields) = signature.and_then(Value::as_object_mut) {
        fields.insert(field.to_owned(), value);
    }
}

/// Changes what is signed and signs it anew with keys that are not enough, under their own ids or those of keys that would be.
fn resign(original: &[u8], stolen: &[usize], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(original).unwrap();
    let donors: Vec<Value> =
        random.of(others).and_then(|other| serde_json::from_slice(other).ok()).into_iter().collect();
    for _ in 0..random.few(3) {
        mutate_json(&mut value["signed"], &donors, random);
    }
    let wanted = value["signatures"].clone();
    let mut by: Vec<usize> = (0..random.few(4)).filter_map(|_| random.of(stolen).copied()).collect();
    by.dedup();
    if random.once_in(8) {
        by = stolen.to_vec();
    }
    // The attacker's key in the place of one that is trusted, where the message carries keys.
    if random.once_in(3)
        && let Some(signer) = signers(&by).first()
    {
        let key = serde_json::to_value(signer.key()).unwrap();
        let places = ["/signed/keys", "/signed/delegations/keys"];
        let holder = places.into_iter().find(|place| value.pointer(place).is_some()).unwrap_or_default();
        let keys = value.pointer_mut(holder).and_then(Value::as_object_mut);
        if let Some(slot) = keys.and_then(|keys| keys.values_mut().next()) {
            *slot = key;
        }
    }
    if random.once_in(2) {
        value["signatures"] = json!([]);
    }
    let unsigned = serde_json::to_vec(&value).unwrap();
    let Ok(signed) = add_signatures(&unsigned, &signers(&by)) else { return unsigned };
    if random.once_in(2) {
        return signed;
    }
    let mut value: Value = serde_json::from_slice(&signed).unwrap();
    let ids: Vec<Value> = wanted.as_array().into_iter().flatten().map(|signature| signature["keyid"].clone()).collect();
    if let Some(signatures) = value["signatures"].as_array_mut() {
        signatures.reverse();
        signatures.iter_mut().zip(ids).for_each(|(signature, id)| set(Some(signature), "keyid", id));
    }
    serde_json::to_vec(&value).unwrap()
}

/// The same signature in ed25519 with the group's order added to its scalar: RFC 8032 has it refused.
fn plus_order(signature: &str) -> String {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let digit = |at: usize| signature.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Vec<u8> = (0..signature.len() / 2).filter_map(|at| digit(at * 2)).collect();
    let Some((point, scalar)) = bytes.split_at_checked(32) else { return signature.to_owned() };
    let mut carry = 0_u16;
    let sum: Vec<u8> = scalar
        .iter()
        .zip(ORDER)
        .map(|(byte, order)| {
            let [low, high] = (u16::from(*byte) + u16::from(order) + carry).to_le_bytes();
            carry = high.into();
            low
        })
        .collect();
    point.iter().chain(&sum).map(|byte| format!("{byte:02x}")).collect()
}
