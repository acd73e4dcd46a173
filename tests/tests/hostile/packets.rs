//! Attacks on MQTT itself: packets that no broker sends, answers that are wrong, late or never given.

use sanderling_tests::{
    Dice,
    proxy::{
        Packet, Toward, Verdict,
        packet::{Publication, kind, put_length, put_text},
    },
};

use super::{Ground, edge};

/// CONNACK with properties that are absurd.
pub(crate) fn connack(ground: &mut Ground, dice: &mut Dice) {
    let mut chance = dice.clone();
    ground.attack(move |passing| match passing.packet.kind() {
        kind::CONNACK => Verdict::Replace(vec![absurd(&mut chance)]),
        _ => Verdict::Pass,
    });
    for _ in 0..3 {
        ground.reconnect();
    }
    ground.wait_struck(2);
}

fn absurd(dice: &mut Dice) -> Packet {
    let mut properties = Vec::new();
    let number = |dice: &mut Dice, count: usize| edge(dice).to_le_bytes().get(..count).unwrap_or_default().to_vec();
    for _ in 0..=dice.below(3) {
        match dice.below(14) {
            // Receive maximum, topic alias maximum, server keep alive.
            0 => properties.extend([vec![0x21], vec![0, 1]].concat()),
            1 => properties.extend([vec![0x21], number(dice, 2)].concat()),
            2 => properties.extend([vec![0x22], number(dice, 2)].concat()),
            3 => properties.extend([vec![0x13], vec![0, 1]].concat()),
            4 => properties.extend([vec![0x13], number(dice, 2)].concat()),
            // Maximum packet size and session expiry.
            5 => properties.extend([vec![0x27], (10 + dice.below(300) as u32).to_be_bytes().to_vec()].concat()),
            6 => properties.extend([vec![0x27], number(dice, 4)].concat()),
            7 => properties.extend([vec![0x11], number(dice, 4)].concat()),
            // What is available.
            8 => {
                let what = [0x24, 0x25, 0x28, 0x29, 0x2a];
                properties.extend([dice.pick(&what).copied().unwrap_or(0x24), edge(dice).to_le_bytes()[0]]);
            }
            // Another client id, a reason, a response topic, another server, an authentication.
            9 => text(&mut properties, 0x12, b"somebody-else"),
            10 => {
                text(&mut properties, *dice.pick(&[0x1a, 0x1c, 0x15, 0x16, 0x1f]).unwrap_or(&0x1f), &vec![b'x'; 60_000])
            }
            11 => {
                for _ in 0..dice.below(40) {
                    properties.push(0x26);
                    put_text(&mut properties, b"k");
                    put_text(&mut properties, &vec![b'v'; 3_000]);
                }
            }
            12 => properties.push(dice.roll() as u8),
            _ => properties.extend(dice.bytes(20)),
        }
    }
    let mut body = vec![u8::from(dice.chance(10)), if dice.chance(15) { dice.roll() as u8 } else { 0 }];
    let length = if dice.chance(10) { dice.below(100_000) } else { properties.len() };
    put_length(&mut body, length);
    body.extend(properties);
    Packet::new(kind::CONNACK << 4, &body)
}

fn text(properties: &mut Vec<u8>, identifier: u8, value: &[u8]) {
    properties.push(identifier);
    put_text(properties, value);
}

/// Packets of any kind, known or not, with anything in them.
pub(crate) fn junk(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    for _ in 0..6 {
        let (first, length) = (dice.roll() as u8, dice.below(40));
        let body = dice.bytes(length);
        ground.inject([Packet::new(first, &body)]);
        settled(ground);
    }
}

/// Acknowledgements of what was never sent, and packets that only clients send.
pub(crate) fn unasked(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    for _ in 0..6 {
        let id = edge(dice) as u16;
        let reason = if dice.chance(50) { 0 } else { dice.roll() as u8 };
        let [high, low] = id.to_be_bytes();
        let packet = match dice.below(10) {
            0 => Packet::answer(kind::PUBACK, id, reason),
            1 => Packet::answer(kind::PUBREC, id, reason),
            2 => Packet::answer(kind::PUBREL, id, reason),
            3 => Packet::answer(kind::PUBCOMP, id, reason),
            4 => Packet::new(kind::SUBACK << 4, &[high, low, 0, reason]),
            5 => Packet::new(kind::UNSUBACK << 4, &[high, low, 0, reason]),
            6 => Packet::connack(&[]),
            7 => Packet::new(kind::DISCONNECT << 4, &[reason, 0]),
            8 => Packet::new(0xf0, &[reason, 0]),
            _ => Packet::new(kind::SUBSCRIBE << 4 | 2, &[high, low, 0, 0, 1, b'#', 1]),
        };
        // Some several times: the first may be taken.
        ground.inject(std::iter::repeat_n(packet, 1 + dice.below(3)));
        settled(ground);
    }
}

/// PUBLISH packets that MQTT forbids.
pub(crate) fn misformed(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    let timestamp = ground.topic("repo/timestamp");
    for _ in 0..6 {
        let honest = Publication { topic: timestamp.clone(), payload: b"{}".to_vec(), ..Publication::default() };
        let packet = match dice.below(10) {
            0 => Packet::new(0x36, &honest.packet().0),
            1 => Publication { topic: String::new(), ..honest }.packet(),
            2 => Publication { topic: "sanderling/v1/+/#".to_owned(), ..honest }.packet(),
            3 => Publication { topic: "sanderling/v1/repo\0timestamp".to_owned(), ..honest }.packet(),
            // A topic alias, which the device did not allow.
            4 => Publication { properties: vec![0x23, 0, edge(dice) as u8], ..honest }.packet(),
            5 => Publication { properties: vec![0x23, 0, 1], topic: String::new(), ..honest }.packet(),
            6 => Publication { qos: 1, id: 0, ..honest }.packet(),
            7 => Publication { qos: 0, dup: true, ..honest }.packet(),
            8 => Publication { properties: dice.bytes(30), ..honest }.packet(),
            _ => {
                // A topic that is no text, or longer than its packet.
                let mut body = (edge(dice) as u16).to_be_bytes().to_vec();
                body.extend([0xff, 0xfe, 0xfd, 0]);
                Packet::new(0x30, &body)
            }
        };
        ground.inject([packet]);
        settled(ground);
    }
}

/// Packets that say that they are longer than any may be, and packets that are.
pub(crate) fn oversize(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    let heads: [&[u8]; 4] = [
        &[0x30, 0xff, 0xff, 0xff, 0x7f],
        &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
        &[0x20, 0xff, 0xff, 0xff, 0x7f, 0, 0],
        &[0x90, 0xff, 0xff, 0x7f, 0, 1],
    ];
    for _ in 0..3 {
        let head = dice.pick(&heads).copied().unwrap_or_default();
        ground.inject([Packet([head, &vec![0; dice.below(60_000)]].concat())]);
        settled(ground);
        let length = [132 * 1024, 140_000, 1 << 20];
        let payload = vec![b'x'; dice.pick(&length).copied().unwrap_or(1 << 20)];
        let topic = ground.topic("repo/timestamp");
        ground.inject([Publication { topic, payload, qos: 1, id: 7, ..Publication::default() }.packet()]);
        settled(ground);
    }
}

/// Some kind of answer never comes.
pub(crate) fn unanswered(ground: &mut Ground, dice: &mut Dice) {
    let kinds = [kind::SUBACK, kind::UNSUBACK, kind::PUBACK, kind::PINGRESP, kind::CONNACK];
    let silent = dice.pick(&kinds).copied().unwrap_or(kind::SUBACK);
    ground.attack(move |passing| match passing.packet.kind() {
        kind if kind == silent && passing.toward == Toward::Device => Verdict::Drop,
        _ => Verdict::Pass,
    });
    ground.reconnect();
    ground.publish_next();
    ground.wait_struck(20);
}

/// Some kind of answer is wrong: another id, another reason, more or fewer of them.
pub(crate) fn misanswered(ground: &mut Ground, dice: &mut Dice) {
    let kinds = [kind::SUBACK, kind::UNSUBACK, kind::PUBACK, kind::PINGRESP];
    let wrong = dice.pick(&kinds).copied().unwrap_or(kind::SUBACK);
    let (mut chance, way) = (dice.clone(), dice.below(4));
    ground.attack(move |passing| {
        if passing.packet.kind() != wrong || passing.toward != Toward::Device {
            return Verdict::Pass;
        }
        let mut body = passing.packet.body().to_vec();
        match way {
            0 => body = chance.bytes(body.len()),
            1 => body.extend([0; 3]),
            2 => body.truncate(body.len().saturating_sub(1)),
            _ => {
                if let Some(last) = body.last_mut() {
                    *last = 0x80 | chance.roll() as u8;
                }
            }
        }
        let first = passing.packet.0.first().copied().unwrap_or(0);
        Verdict::Replace(vec![Packet::new(first, &body)])
    });
    ground.reconnect();
    ground.wait_struck(5);
}

/// Connections end within a packet, each at another byte.
pub(crate) fn torn(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    ground.publish_next();
    for _ in 0..4 {
        let toward = if dice.chance(50) { Toward::Device } else { Toward::Broker };
        ground.proxy.cut_after(toward, dice.below(40_000) as u64);
        ground.reconnect();
    }
}

/// Lets the device answer what was sent to it, be it by ending the connection.
fn settled(ground: &Ground) {
    let before = ground.proxy.connections();
    let ended = || ground.proxy.connections() > before;
    sanderling_tests::until(std::time::Duration::from_millis(60), || ended().then_some(()));
}
