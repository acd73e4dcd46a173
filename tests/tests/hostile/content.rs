//! Attacks on what messages say: metadata, indexes and chunks that are changed, old, exchanged, absent or too long.

use sanderling_tests::{
    Dice,
    proxy::{Packet, Toward, Verdict, packet::Publication},
};

use super::{Ground, Past, edge};

/// Makes another payload of an honest one.
type Change = fn(&mut Dice, &str, Vec<u8>, &Past) -> Vec<u8>;

/// What is done to payloads, by name.
pub(crate) const CHANGES: [(&str, Change); 11] = [
    ("bits flipped", flip),
    ("cut", cut),
    ("with something behind", extend),
    ("of another topic", exchange),
    ("older ones", older),
    ("other numbers", renumber),
    ("nested without end", nest),
    ("oversize", oversize),
    ("empty or nonsense", nonsense),
    ("bombs and lying indexes", bomb),
    ("signatures exchanged", unsign),
];

/// An honest version is published, and what comes of it at the device is changed.
pub(crate) fn changed(ground: &mut Ground, dice: &mut Dice, change: Change) {
    let (past, prefix) = (ground.past(), format!("{}/", ground.topics.prefix()));
    let mut chance = dice.clone();
    let percent = if dice.chance(50) { 100 } else { 50 };
    ground.attack(move |passing| {
        let publication = passing.packet.publication().filter(|_| passing.toward == Toward::Device);
        let Some(mut publication) = publication else { return Verdict::Pass };
        let Some(below) = publication.topic.strip_prefix(&prefix).map(str::to_owned) else { return Verdict::Pass };
        if !is_content(&below) || !chance.chance(percent) {
            return Verdict::Pass;
        }
        publication.payload = change(&mut chance, &below, publication.payload, &past);
        Verdict::Replace(vec![publication.packet()])
    });
    if dice.chance(30) {
        ground.reconnect();
    }
    ground.publish_next();
    ground.wait_struck(4);
}

/// An honest version is published, and a part of it never comes.
pub(crate) fn withheld(ground: &mut Ground, dice: &mut Dice) {
    let parts = ["/repo/", "/repo/timestamp", "/blob/", "/chunk/", "snapshot", "targets", "releases", "deployments"];
    let part = dice.pick(&parts).copied().unwrap_or("/repo/");
    ground.attack(move |passing| {
        let publication = passing.packet.publication().filter(|_| passing.toward == Toward::Device);
        let hit = publication.is_some_and(|publication| publication.topic.contains(part));
        if hit { Verdict::Drop } else { Verdict::Pass }
    });
    ground.publish_next();
    ground.wait_struck(2);
}

/// All that was honest once comes again, as if it were kept, in any order.
pub(crate) fn replayed(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    let past = ground.past();
    let mut all: Vec<(&String, &Vec<u8>)> =
        past.iter().flat_map(|(topic, payloads)| payloads.iter().map(move |payload| (topic, payload))).collect();
    // In any order: each changes places with any other.
    for at in 0..all.len() {
        let other = dice.below(all.len());
        all.swap(at, other);
    }
    let packets: Vec<Packet> = all.into_iter().map(|(topic, payload)| kept(&ground.topic(topic), payload)).collect();
    ground.inject(packets);
}

/// A retained message, as a broker sends it.
pub(crate) fn kept(topic: &str, payload: &[u8]) -> Packet {
    let payload = payload.to_vec();
    Publication { topic: topic.to_owned(), retain: true, payload, ..Publication::default() }.packet()
}

fn is_content(below: &str) -> bool {
    ["repo/", "blob/", "chunk/"].iter().any(|part| below.starts_with(part))
}

fn flip(dice: &mut Dice, _: &str, mut payload: Vec<u8>, _: &Past) -> Vec<u8> {
    for _ in 0..=dice.below(4) {
        let at = dice.below(payload.len());
        if let Some(byte) = payload.get_mut(at) {
            *byte ^= 1 << dice.below(8);
        }
    }
    payload
}

fn cut(dice: &mut Dice, _: &str, mut payload: Vec<u8>, _: &Past) -> Vec<u8> {
    payload.truncate(dice.below(payload.len()));
    payload
}

fn extend(dice: &mut Dice, _: &str, mut payload: Vec<u8>, _: &Past) -> Vec<u8> {
    let more = 1 + dice.below(2_000);
    payload.extend(if dice.chance(50) { vec![b' '; more] } else { dice.bytes(more) });
    payload
}

fn exchange(dice: &mut Dice, topic: &str, payload: Vec<u8>, past: &Past) -> Vec<u8> {
    let family = topic.split('/').next().unwrap_or_default();
    let others: Vec<&Vec<Vec<u8>>> =
        past.iter().filter(|(other, _)| *other != topic && other.starts_with(family)).map(|(_, held)| held).collect();
    dice.pick(&others).and_then(|held| dice.pick(held)).cloned().unwrap_or(payload)
}

/// An older one of the same topic, or of the same role.
fn older(dice: &mut Dice, topic: &str, payload: Vec<u8>, past: &Past) -> Vec<u8> {
    let role = topic.rsplit('.').next().unwrap_or(topic);
    let same: Vec<&Vec<Vec<u8>>> =
        past.iter().filter(|(other, _)| other.rsplit('.').next() == Some(role)).map(|(_, held)| held).collect();
    dice.pick(&same).and_then(|held| dice.pick(held)).cloned().unwrap_or(payload)
}

/// Every number of the JSON, or some bytes of what is none, says something else.
fn renumber(dice: &mut Dice, _: &str, payload: Vec<u8>, _: &Past) -> Vec<u8> {
    let mut changed = Vec::with_capacity(payload.len());
    let mut digits = false;
    for byte in payload {
        if byte.is_ascii_digit() {
            if !digits && dice.chance(30) {
                changed.extend(edge(dice).to_string().into_bytes());
                digits = true;
                continue;
            }
            if digits {
                continue;
            }
        } else {
            digits = false;
        }
        changed.push(byte);
    }
    changed
}

fn nest(dice: &mut Dice, _: &str, _: Vec<u8>, _: &Past) -> Vec<u8> {
    let depth = 1 + dice.below(120_000);
    match dice.below(3) {
        0 => vec![b'['; depth],
        1 => b"{\"a\":".repeat(depth / 5 + 1),
        _ => [vec![b'['; depth / 2], vec![b']'; depth / 2]].concat(),
    }
}

fn oversize(dice: &mut Dice, _: &str, payload: Vec<u8>, _: &Past) -> Vec<u8> {
    let length = [60_000, 70_000, 128 * 1024, 134_000, 200_000, 1 << 20];
    let length = dice.pick(&length).copied().unwrap_or(1 << 20);
    payload.iter().copied().cycle().take(if payload.is_empty() { 0 } else { length }).collect()
}

fn nonsense(dice: &mut Dice, _: &str, _: Vec<u8>, _: &Past) -> Vec<u8> {
    let texts: [&[u8]; 6] = [b"", b"{}", b"null", b"{\"signed\":{},\"signatures\":[]}", b"SBI1", b"\xff\xfe\x00"];
    let length = dice.below(3_000);
    if dice.chance(70) { dice.pick(&texts).map(|text| text.to_vec()).unwrap_or_default() } else { dice.bytes(length) }
}

/// An index whose chunks nobody has, or a chunk that decompresses to far more than it should.
fn bomb(dice: &mut Dice, topic: &str, payload: Vec<u8>, past: &Past) -> Vec<u8> {
    if topic.starts_with("chunk/") {
        // zstd: a window of 64 KiB, then blocks of one repeated byte, 128 KiB each.
        let mut bomb = vec![1, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x30];
        for _ in 0..15_000 {
            bomb.extend_from_slice(&[0x02, 0x00, 0x10, 0]);
        }
        return bomb;
    }
    if !topic.starts_with("blob/") || payload.len() < 12 {
        return flip(dice, topic, payload, past);
    }
    let mut lying = payload;
    if dice.chance(50) {
        // Its lengths are right, its chunks are of nobody.
        for entry in lying.get_mut(12..).unwrap_or_default().chunks_mut(35) {
            let digest = dice.bytes(32);
            entry.iter_mut().zip(digest).for_each(|(byte, other)| *byte = other);
        }
    } else {
        let entry = lying.get(12..).unwrap_or_default().to_vec();
        while lying.len() < 127 * 1024 && !entry.is_empty() {
            lying.extend_from_slice(&entry);
        }
    }
    lying
}

/// The signed part of one version with the signatures of another.
fn unsign(dice: &mut Dice, topic: &str, payload: Vec<u8>, past: &Past) -> Vec<u8> {
    let other = older(dice, topic, payload.clone(), past);
    let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let (Some(mut ours), Some(theirs)) = (read(&payload), read(&other)) else {
        return flip(dice, topic, payload, past);
    };
    if dice.chance(50) {
        ours["signatures"] = theirs["signatures"].clone();
    } else if let Some(signatures) = ours["signatures"].as_array_mut() {
        // The same one several times, for a threshold.
        let first = signatures.first().cloned();
        signatures.extend(std::iter::repeat_n(first, 200).flatten());
        ours["signed"]["version"] = serde_json::json!(u32::MAX);
    }
    serde_json::to_vec(&ours).unwrap_or(payload)
}
