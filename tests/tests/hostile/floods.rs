//! Attacks by mere number: thousands of messages a second, on topics that were asked for and on others.

use sanderling_tests::{
    Dice,
    proxy::{
        Packet, Verdict,
        packet::{Publication, kind, put_text},
    },
};

use super::Ground;

/// Messages without end of one sort; small ones by the thousand, long ones by the hundred.
pub(crate) fn messages(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    let device = ground.device.id.clone();
    let topics = [
        ground.topic("repo/timestamp"),
        ground.topic("repo/2.root"),
        ground.topic("repo/1.root"),
        ground.topic(&format!("chunk/{:064x}", dice.roll())),
        ground.topic("elsewhere"),
        "not/ours".to_owned(),
        ground.topics.device(&device, "cmd/ping"),
        ground.topics.device(&device, "cmd/report"),
        ground.topics.device(&device, "cmd/refresh"),
        ground.topics.device(&device, "cmd/nothing"),
    ];
    let topic = dice.pick(&topics).cloned().unwrap_or_default();
    let long = dice.chance(40);
    let (count, length) = if long { (400, 100_000) } else { (6_000, dice.below(200)) };
    let mut properties = Vec::new();
    if topic.contains("/cmd/") || dice.chance(20) {
        properties.push(0x08);
        put_text(&mut properties, ground.topics.device(&device, "answer/flood").as_bytes());
        properties.push(0x09);
        put_text(&mut properties, &vec![7; if long { 20_000 } else { 16 }]);
    }
    let qos = u8::try_from(dice.below(3)).unwrap_or(0);
    let payload = dice.bytes(length);
    let flood = (0..count).map(|number| {
        // With QoS 2 every id is used, and none is ever released.
        let id = u16::try_from(number % 65_535).unwrap_or(0) + 1;
        Publication {
            topic: topic.clone(),
            qos,
            id,
            properties: properties.clone(),
            payload: payload.clone(),
            ..Publication::default()
        }
        .packet()
    });
    ground.inject(flood);
}

/// What is honest and newest, again and again.
pub(crate) fn honest(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    let past = ground.past();
    let topics: Vec<&String> = past.keys().filter(|topic| topic.starts_with("repo/")).collect();
    let topic = if dice.chance(50) { Some("repo/timestamp") } else { dice.pick(&topics).map(|topic| topic.as_str()) };
    let topic = topic.unwrap_or("repo/timestamp");
    let Some(payload) = past.get(topic).and_then(|held| held.last()) else { return };
    let packet = super::content::kept(&ground.topic(topic), payload);
    ground.inject(std::iter::repeat_n(packet, 3_000));
}

/// The newest timestamp again and again, while what it leads to never comes and nothing is acknowledged.
pub(crate) fn leading_nowhere(ground: &mut Ground, _: &mut Dice) {
    ground.attack(|passing| {
        let kind = passing.packet.kind();
        let publication = passing.packet.publication();
        let leads =
            publication.is_some_and(|found| found.topic.contains("/repo/") && !found.topic.ends_with("timestamp"));
        if leads || kind == kind::SUBACK || kind == kind::UNSUBACK { Verdict::Drop } else { Verdict::Pass }
    });
    ground.publish_next();
    ground.wait_struck(2);
    let past = ground.past();
    let Some(payload) = past.get("repo/timestamp").and_then(|held| held.last()) else { return };
    let packet = super::content::kept(&ground.topic("repo/timestamp"), payload);
    ground.inject(std::iter::repeat_n(packet, 3_000));
}

/// Packets of a few bytes that ask for no answer, or for one each.
pub(crate) fn small_packets(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    let packet = match dice.below(3) {
        0 => Packet::new(kind::PINGRESP << 4, &[]),
        1 => Packet::answer(kind::PUBREL, 77, 0),
        _ => Publication { topic: "t".to_owned(), qos: 2, id: 9, ..Publication::default() }.packet(),
    };
    ground.inject(std::iter::repeat_n(packet, 6_000));
}

/// Properties without end in one message.
pub(crate) fn properties(ground: &mut Ground, dice: &mut Dice) {
    ground.attack(|_| Verdict::Pass);
    let mut properties = Vec::new();
    let value = vec![b'v'; dice.pick(&[0, 1, 9, 25]).copied().unwrap_or(1)];
    let key = if dice.chance(50) { value.clone() } else { Vec::new() };
    while properties.len() < 120_000 {
        properties.push(0x26);
        put_text(&mut properties, &key);
        put_text(&mut properties, &value);
    }
    let topic = ground.topics.device(&ground.device.id, "cmd/ping");
    let packet = Publication { topic, properties, ..Publication::default() }.packet();
    ground.inject(std::iter::repeat_n(packet, 200));
}
