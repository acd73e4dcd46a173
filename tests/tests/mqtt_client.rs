//! What is known of MQTT clients of this family (the table in `threats.md`, by the numbers of bytebeamio/rumqtt): each row on a
//! real Mosquitto, through a proxy that brings about what the report tells.
//!
//! The rule that most of them come down to: nothing that the client forgets is lost, because whoever wants it sent keeps it
//! until its PUBACK, and nothing that the client waits for can hold up the agent, because a connection without progress is given
//! up.

#![allow(clippy::unwrap_used, clippy::panic)]

mod linked;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use linked::{Ground, KEEP_ALIVE};
use sanderling_agent::link::{BrokerLimits, Link, LinkError, LinkEvent, LinkRefusal, Publish};
use sanderling_tests::{
    Deadline, PATIENCE,
    proxy::{
        Packet, Passing, Toward, Verdict,
        packet::{Publication, kind},
    },
    until,
};

/// Fits for a connection that stands and does nothing: within its keep-alives, and what a busy machine adds.
const NOTICED: Duration = Duration::from_millis(4_500);

/// A judge that answers CONNECT in the broker's place of words: these properties in CONNACK.
fn connack(properties: &'static [u8]) -> impl FnMut(Passing<'_>) -> Verdict + Send {
    move |passing| match passing.packet.kind() {
        kind::CONNACK => Verdict::Replace(vec![Packet::connack(properties)]),
        _ => Verdict::Pass,
    }
}

/// #1056, #1014: the broker acknowledges out of order or never, packet ids come around to one that is still taken, and the
/// session is lost on top: the client waited for ever, and the publish was gone.
#[test]
fn packet_ids_that_come_around_to_one_without_puback_lose_nothing_1056_1014() {
    let ground = Ground::new();
    let withheld = Arc::new(AtomicU64::new(0));
    let count = withheld.clone();
    ground.proxy.judge(move |passing| {
        // On the first two connections the second of every five acknowledgements never comes.
        let lost = passing.connection <= 2 && passing.packet.kind() == kind::PUBACK && passing.toward == Toward::Device;
        if lost && passing.packet.id().is_some_and(|id| id % 5 == 2) {
            count.fetch_add(1, Ordering::SeqCst);
            return Verdict::Drop;
        }
        Verdict::Pass
    });
    let mut linked = ground.link();
    linked.up();
    let acked = linked.deliver(0..300, |number| ground.number(number));
    ground.wait_arrived(300);
    assert!(acked >= 300 && withheld.load(Ordering::SeqCst) >= 2, "{acked}");
    assert_eq!(linked.downs, vec![LinkError::NoProgress { what: "a publish", seconds: 2 * KEEP_ALIVE.as_secs() }; 2]);
}

/// #923: a broker that answers `session_present = 0` made the client clear what was pending, never-sent messages included.
#[test]
fn a_session_that_the_broker_has_lost_loses_nothing_923() {
    let ground = Ground::new();
    ground.proxy.judge(|passing| {
        let fatal = passing.connection < 8 && passing.toward == Toward::Broker;
        let publication =
            passing.packet.publication().filter(|publication| fatal && publication.topic.contains("/data/"));
        match publication {
            // The connection ends as the n-th message is on its way, others wait in the client.
            Some(publication) if publication.id % 16 == 7 => Verdict::Cut,
            _ => Verdict::Pass,
        }
    });
    let mut linked = ground.link();
    linked.up();
    linked.deliver(0..500, |number| ground.number(number));
    ground.wait_arrived(500);
    assert!(linked.downs.len() >= 7, "{:?}", linked.downs);
}

/// #1057: SUBSCRIBE packets were sent under a packet id that was taken, when many were under way.
#[test]
fn one_subscribe_is_under_way_at_a_time_and_no_packet_id_is_used_twice_1057() {
    let ground = Ground::new();
    ground.proxy.delay(Duration::from_millis(10));
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let told = wrong.clone();
    let (mut taken, mut subscribes) = (HashMap::new(), 0_i32);
    ground.proxy.judge(move |passing| {
        let (kind, id) = (passing.packet.kind(), passing.packet.id());
        match (passing.toward, kind, id) {
            (Toward::Broker, kind::SUBSCRIBE | kind::UNSUBSCRIBE | kind::PUBLISH, Some(id)) => {
                subscribes += i32::from(kind == kind::SUBSCRIBE);
                if subscribes > 1 {
                    told.lock().unwrap().push(format!("{subscribes} SUBSCRIBE at once"));
                }
                if let Some(other) = taken.insert(id, kind) {
                    told.lock().unwrap().push(format!("packet id {id} of kind {kind} is that of kind {other}"));
                }
            }
            (Toward::Device, kind::SUBACK | kind::UNSUBACK | kind::PUBACK, Some(id)) => {
                subscribes -= i32::from(kind == kind::SUBACK);
                taken.remove(&id);
            }
            _ => {}
        }
        Verdict::Pass
    });
    let mut linked = ground.link();
    linked.up();
    let mut wanted = BTreeSet::new();
    for number in 0..400 {
        let topic = ground.common(&format!("chunk/{number:04}"));
        linked.link.subscribe(vec![topic.clone()]).unwrap();
        if number % 3 == 0 {
            linked.link.unsubscribe(&[topic]);
        } else {
            wanted.insert(topic);
        }
        if linked.link.room() > 0 {
            linked.link.publish(ground.number(number)).unwrap();
        }
    }
    let mut missing = wanted.clone();
    while !missing.is_empty() {
        for topic in linked.subscribed() {
            missing.remove(&topic);
        }
    }
    assert_eq!(*wrong.lock().unwrap(), Vec::<String>::new());
    for topic in [wanted.first(), wanted.last()].into_iter().flatten() {
        ground.site.observer.publish(topic, b"heard", false);
        assert_eq!(linked.message_on(topic).payload, "heard");
    }
    assert_eq!(linked.downs, []);
}

/// #1025, #263: `publish().await` in the task that also polls froze as soon as the client's queue was full.
#[test]
fn publishing_never_waits_even_when_nothing_gets_through_1025_263() {
    let ground = Ground::new();
    let mut linked = ground.link_with(Duration::from_secs(30));
    linked.up();
    // Nothing passes any more, and it is noticed late: all queues fill up.
    ground.proxy.silence(true);
    let quick = Deadline::after(Duration::from_secs(2));
    let mut taken = 0;
    let mut refusals = BTreeSet::new();
    for number in 0..10_000 {
        match linked.link.publish(Publish::new(ground.own("data/m/x"), vec![b'1'; 4096]).with_token(number)) {
            Ok(()) => taken += 1,
            Err(refusal) => _ = refusals.insert(refusal.to_string()),
        }
    }
    assert!(quick.left().is_some(), "10,000 calls of publish take no time");
    assert_eq!(refusals.into_iter().collect::<Vec<_>>(), [LinkRefusal::Busy.to_string()]);
    ground.proxy.silence(false);
    for _ in 0..taken {
        linked.until("an acknowledgement", |event| matches!(event, LinkEvent::Acked { .. }).then_some(()));
    }
    assert_eq!(linked.downs, []);
}

/// #250: after a connection without session nothing was subscribed any more.
#[test]
fn every_connection_subscribes_again_250() {
    let ground = Ground::new();
    let (topic, commands) = (ground.common("repo/timestamp"), ground.own("cmd/+"));
    ground.site.observer.publish(&topic, b"kept", true);
    let mut linked = ground.link();
    linked.link.subscribe(vec![topic.clone(), commands.clone()]).unwrap();
    for round in 0..5 {
        linked.up();
        let wanted = BTreeSet::from([topic.clone(), commands.clone()]);
        let (mut subscribed, mut came) = (BTreeSet::new(), 0);
        linked.until("subscriptions and the retained message", |event| {
            match event {
                LinkEvent::Subscribed { topics } => subscribed.extend(topics),
                LinkEvent::Message(message) if message.topic == topic && message.retained => came += 1,
                _ => {}
            }
            (subscribed == wanted && came == 1).then_some(())
        });
        let command = ground.own("cmd/ping");
        ground.site.observer.publish(&command, format!("{round}").as_bytes(), false);
        assert_eq!(linked.message_on(&command).payload, format!("{round}"));
        ground.proxy.cut();
        linked.down();
    }
}

/// #884, #924, #614: packets above 10 KiB ended the connection, in either direction, and came again with the next.
#[test]
fn messages_up_to_the_limit_pass_both_ways_and_longer_ones_wedge_nothing_884_924_614() {
    const LONG: usize = 128 * 1024;
    let ground = Ground::new();
    let (long, longer, short) =
        (ground.common("chunk/long"), ground.common("chunk/longer"), ground.common("chunk/short"));
    let content: Vec<u8> = (0..LONG).map(|n| n as u8).collect();
    ground.site.observer.publish(&long, &content, true);
    ground.site.observer.publish(&longer, &vec![7; 200 * 1024], true);
    ground.site.observer.publish(&short, b"short", true);
    let mut linked = ground.link();
    linked.link.subscribe(vec![longer, long.clone(), short.clone()]).unwrap();
    linked.up();
    // What is longer than the device takes, the broker leaves out: MQTT 5, 3.1.2.11.4.
    let mut missing = BTreeSet::from([long.clone(), short.clone()]);
    linked.until("both messages", |event| {
        if let LinkEvent::Message(message) = event {
            assert!(message.topic != long || message.payload == content);
            assert!(missing.remove(&message.topic), "{}", message.topic);
        }
        missing.is_empty().then_some(())
    });
    linked.link.publish(Publish::new(ground.own("data/m/long"), content.clone()).with_token(1)).unwrap();
    linked.until("the acknowledgement", |event| matches!(event, LinkEvent::Acked { token: 1 }).then_some(()));
    ground.site.observer.wait_for("the long message", PATIENCE, |seen| {
        seen.of(&ground.device.id, "data/m/long").any(|message| message.payload == content).then_some(())
    });
    let refused = linked.link.publish(Publish::new(ground.own("data/m/long"), vec![0; 140 * 1024]));
    assert!(matches!(refused, Err(LinkRefusal::TooLong { .. })), "{refused:?}");
    assert_eq!(linked.downs, []);

    // A broker that sends it all the same: the connection ends with a reason that is right, and the next one is good.
    let forged = Publication { topic: short.clone(), payload: vec![0; 200 * 1024], ..Publication::default() };
    assert!(ground.proxy.inject(forged.packet()));
    let error = linked.down();
    assert!(matches!(error, LinkError::PacketTooLong { direction: "received", .. }), "{error}");
    linked.up();
    assert_eq!(linked.message_on(&short).payload, "short");
}

/// SUBACK return codes were ignored: a device that may not listen was silent for ever.
#[test]
fn a_subscription_that_is_refused_is_reported_with_its_reason_and_the_others_stand() {
    let ground = Ground::new();
    let codes = [0x87, 0x80, 0x8f, 0x97, 0x9e, 0xa1, 0xa2, 0x83, 0x91];
    ground.proxy.judge(move |passing| {
        if passing.packet.kind() != kind::SUBACK {
            return Verdict::Pass;
        }
        let mut packet = passing.packet.clone();
        let length = packet.0.len();
        for (place, code) in packet.0[length - codes.len() - 1..].iter_mut().zip(codes) {
            *place = code;
        }
        Verdict::Replace(vec![packet])
    });
    let topics: Vec<String> = (0..=codes.len()).map(|number| ground.common(&format!("repo/{number}"))).collect();
    let mut linked = ground.link();
    linked.link.subscribe(topics.clone()).unwrap();
    let mut refused = Vec::new();
    let taken = linked.until("all answers", |event| match event {
        LinkEvent::SubscribeRefused { topic, error } => {
            refused.push((topic, error.to_string()));
            None
        }
        LinkEvent::Subscribed { topics } => Some(topics),
        _ => None,
    });
    assert_eq!(taken, topics[codes.len()..]);
    let reasons = [
        "not authorized",
        "unspecified",
        "filter",
        "quota",
        "shared",
        "subscription id",
        "wildcard",
        "implementation",
        "pkid",
    ];
    assert_eq!(refused.len(), codes.len(), "{refused:?}");
    for ((topic, said), (wanted, reason)) in refused.iter().zip(topics.iter().zip(reasons)) {
        assert!(topic == wanted && said.contains(topic) && said.contains(reason), "{topic}: {said}");
    }
    assert_eq!(linked.downs, []);
}

/// #801: a peer that is dead was noticed after two keep-alives, or never where a publish was outstanding.
#[test]
fn a_dead_peer_is_noticed_within_its_keep_alives_801() {
    let ground = Ground::new();
    let mut linked = ground.link();
    linked.up();
    // Idle; with a publish on its way; and where the broker asks for fewer pings than the device wants, or for none.
    let cases: [(&str, &'static [u8], bool); 4] = [
        ("idle", &[], false),
        ("with a publish outstanding", &[], true),
        ("with a keep-alive of ten minutes", &[0x13, 0x02, 0x58], false),
        ("with pings turned off", &[0x13, 0, 0], false),
    ];
    for (name, properties, publish) in cases {
        ground.proxy.judge(connack(properties));
        ground.proxy.cut();
        linked.down();
        linked.up();
        linked.link.subscribe(vec![ground.common("repo/timestamp")]).unwrap();
        linked.subscribed();
        ground.proxy.silence(true);
        let soon = Deadline::after(NOTICED);
        if publish {
            linked.link.publish(ground.number(1)).unwrap();
        }
        let error = linked.down();
        assert!(soon.left().is_some(), "{name}: noticed too late");
        assert!(matches!(error, LinkError::Silent { .. } | LinkError::NoProgress { .. }), "{name}: {error}");
        // What the proxy holds of given-up attempts goes with them: a late CONNECT would take the session over from the next one.
        ground.proxy.cut();
        ground.proxy.silence(false);
        linked.up();
    }
}

/// A connection without pings that is alive stays.
#[test]
fn a_broker_that_turns_pings_off_is_asked_otherwise_and_stays_connected() {
    let ground = Ground::new();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let mut answer = connack(&[0x13, 0, 0]);
    ground.proxy.judge(move |passing| {
        if passing.packet.kind() == kind::UNSUBACK {
            count.fetch_add(1, Ordering::SeqCst);
        }
        answer(passing)
    });
    let mut linked = ground.link();
    assert_eq!(linked.up().keep_alive, Some(0));
    assert!(until(PATIENCE, || (asked.load(Ordering::SeqCst) >= 3).then_some(())).is_some());
    linked.deliver(0..10, |number| ground.number(number));
    assert_eq!(linked.downs, []);
}

/// #830: a broker that closed at the wrong moment made the client panic.
#[test]
fn a_broker_may_close_after_any_packet_and_after_any_byte_830() {
    let ground = Ground::new();
    let mut linked = ground.link();
    linked.link.subscribe(vec![ground.common("repo/timestamp")]).unwrap();
    linked.up();
    let mut sent = 0;
    let kinds = [kind::CONNECT, kind::SUBSCRIBE, kind::PUBLISH, kind::PINGREQ];
    let answers = [kind::CONNACK, kind::SUBACK, kind::PUBACK, kind::PINGRESP];
    for wanted in kinds.into_iter().chain(answers) {
        ground.proxy.judge(move |passing| if passing.packet.kind() == wanted { Verdict::Cut } else { Verdict::Pass });
        if [kind::CONNECT, kind::CONNACK, kind::SUBSCRIBE, kind::SUBACK].contains(&wanted) {
            // These come with a connection.
            ground.proxy.cut();
        } else if linked.link.room() > 0 {
            linked.link.publish(ground.number(sent)).unwrap();
        }
        let error = linked.down();
        assert!(matches!(error, LinkError::Broken { .. }), "after packet {wanted}: {error}");
        ground.proxy.pass();
        linked.up();
        linked.deliver(sent..sent + 5, |number| ground.number(number));
        sent += 5;
    }
    for toward in [Toward::Broker, Toward::Device] {
        for bytes in (0..48).chain((48..400).step_by(16)) {
            // Every connection ends somewhere on its way until the fault does, however far it came.
            ground.proxy.cut_after(toward, bytes);
            ground.proxy.cut();
            linked.down();
            let before = ground.proxy.connections();
            let tried = until(PATIENCE, || (ground.proxy.connections() > before).then_some(()));
            assert!(tried.is_some(), "no connection is made after {bytes} bytes");
            ground.proxy.pass();
            linked.deliver(sent..sent + 3, |number| ground.number(number));
            sent += 3;
        }
    }
    ground.wait_arrived(sent);
}

/// What the broker says of itself reaches the driver, and is kept to.
#[test]
fn what_the_broker_says_of_itself_is_told_and_kept_to() {
    let ground = Ground::new();
    let mut linked = ground.link();
    // As `sanderling provision broker` sets them.
    let said = BrokerLimits { receive_maximum: 64, maximum_packet: 1 << 20, ..BrokerLimits::default() };
    assert_eq!(BrokerLimits { maximum_qos: 2, ..linked.up() }, said);

    // One message at a time, short packets, no wildcards.
    let outstanding = Arc::new(Mutex::new((0_i32, 0_i32, 0)));
    let counts = outstanding.clone();
    let mut answer = connack(&[0x21, 0, 1, 0x27, 0, 0, 1, 0, 0x28, 0]);
    ground.proxy.judge(move |passing| {
        let mut counts = counts.lock().unwrap();
        match (passing.toward, passing.packet.kind()) {
            (Toward::Broker, kind::CONNECT) => *counts = (0, 0, 0),
            (Toward::Broker, kind::PUBLISH) => counts.0 += 1,
            (Toward::Device, kind::PUBACK) => counts.0 -= 1,
            _ => {}
        }
        counts.1 = counts.1.max(counts.0);
        if passing.toward == Toward::Broker && passing.packet.kind() != kind::CONNECT {
            counts.2 = counts.2.max(passing.packet.0.len());
        }
        answer(passing)
    });
    ground.proxy.cut();
    linked.down();
    let commands = ground.own("cmd/+");
    let topics: Vec<String> = (0..40).map(|number| ground.common(&format!("repo/{number:032}"))).collect();
    linked.link.subscribe([vec![commands.clone()], topics.clone()].concat()).unwrap();
    assert_eq!(linked.up().receive_maximum, 1);
    let mut missing: BTreeSet<String> = topics.into_iter().collect();
    let mut refused = Vec::new();
    linked.until("all subscriptions", |event| {
        match event {
            LinkEvent::SubscribeRefused { topic, error } => refused.push((topic, error.to_string())),
            LinkEvent::Subscribed { topics } => topics.iter().for_each(|topic| _ = missing.remove(topic)),
            _ => {}
        }
        missing.is_empty().then_some(())
    });
    assert!(refused.len() == 1 && refused[0].0 == commands && refused[0].1.contains("no wildcards"), "{refused:?}");
    linked.deliver(0..100, |number| ground.number(number));
    ground.wait_arrived(100);
    let (_, most, longest) = *outstanding.lock().unwrap();
    assert_eq!(most, 1, "its receive maximum");
    assert!(longest <= 256, "its packet limit: {longest}");
    assert_eq!(linked.downs.len(), 1, "{:?}", linked.downs);
}

/// A broker on which nothing can work is named as such, not tried in silence.
#[test]
fn a_broker_without_retained_messages_or_qos_1_is_reported_with_cause_and_cure() {
    let ground = Ground::new();
    let mut linked = ground.link();
    let cases: [(&'static [u8], [&str; 2]); 2] =
        [(&[0x25, 0], ["keeps no retained messages", "retain_available"]), (&[0x24, 0], ["QoS 0 only", "max_qos"])];
    for (properties, words) in cases {
        ground.proxy.judge(connack(properties));
        ground.proxy.cut();
        linked.until("the reason", |event| match event {
            LinkEvent::Down { error: error @ LinkError::Unfit { .. }, .. } => Some(error.to_string()),
            _ => None,
        });
        let said = linked.downs.last().unwrap().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        ground.proxy.pass();
        linked.up();
    }
}

/// A quota that is exceeded passes: the message is sent again and not given up.
#[test]
fn a_message_that_exceeds_the_brokers_quota_is_sent_again() {
    let ground = Ground::new();
    let mut refused = 0;
    ground.proxy.judge(move |passing| match (passing.toward, passing.packet.kind(), passing.packet.id()) {
        (Toward::Device, kind::PUBACK, Some(id)) if id == 9 && refused < 3 => {
            refused += 1;
            Verdict::Replace(vec![Packet::answer(kind::PUBACK, id, 0x97)])
        }
        _ => Verdict::Pass,
    });
    let mut linked = ground.link();
    linked.up();
    linked.deliver(0..100, |number| ground.number(number));
    ground.wait_arrived(100);
    assert_eq!(linked.downs.len(), 3, "{:?}", linked.downs);
    assert!(linked.downs.iter().all(|error| matches!(error, LinkError::Overloaded { .. })), "{:?}", linked.downs);
}
