//! The link on a real Mosquitto with TLS, and on brokers that misbehave: one test for each row of "what is known of the
//! MQTT client", and one for each way in which a connection can fail.

#![allow(clippy::unwrap_used, clippy::panic)]

mod link_support;

use std::collections::BTreeSet;

use bytes::Bytes;
use link_support::{
    Running,
    misbehaving::{self, Script},
    mosquitto::Mosquitto,
    pki::Pki,
    proxy::Proxy,
    settings, start,
};
use sanderling_agent::link::{
    BrokerLimits, Link, LinkError, LinkEvent, LinkRefusal, MAX_OUTSTANDING, Publish, Qos,
    probe::{Stage, connect, probe},
};
use sanderling_protocol::reported::Status;

fn status(running_message: &[u8]) -> Status {
    serde_json::from_slice(running_message).unwrap()
}

fn topics(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Publishes with tokens as fast as there is room, until all are acknowledged; returns the tokens in order.
async fn publish_all(running: &mut Running, messages: impl IntoIterator<Item = Publish>) -> Vec<u64> {
    let mut acked = Vec::new();
    let mut messages = messages.into_iter().peekable();
    let mut sent = 0;
    while messages.peek().is_some() || acked.len() < sent {
        while running.link.room() > 0 {
            let Some(message) = messages.next() else { break };
            running.link.publish(message).unwrap();
            sent += 1;
        }
        if acked.len() < sent {
            acked.push(running.acked().await);
        }
    }
    acked
}

#[tokio::test]
async fn birth_and_will_carry_the_session_of_their_connection() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let proxy = Proxy::start(broker.port).await;
    let mut watcher = start("watcher", settings(&pki, "watcher", broker.port));
    watcher.link.subscribe(topics(&["sanderling/v1/device/gw-1/status"])).unwrap();
    watcher.subscribed().await;
    let mut device = start("gw-1", settings(&pki, "gw-1", proxy.port));
    let first = device.up().await;
    let birth = status(&watcher.message().await.payload);
    assert_eq!((&birth.session, birth.online), (&first, true));
    proxy.cut();
    let will = status(&watcher.message().await.payload);
    assert_eq!((&will.session, will.online), (&first, false));
    let second = device.up().await;
    assert_ne!(first, second);
    let birth = status(&watcher.message().await.payload);
    assert_eq!((&birth.session, birth.online), (&second, true));
    let mut late = start("late", settings(&pki, "late", broker.port));
    late.link.subscribe(topics(&["sanderling/v1/device/gw-1/status"])).unwrap();
    let kept = late.message().await;
    assert!(kept.retained && status(&kept.payload).session == second);
}

#[tokio::test]
async fn closing_says_goodbye_and_ends_the_events() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut watcher = start("watcher", settings(&pki, "watcher", broker.port));
    watcher.link.subscribe(topics(&["sanderling/v1/device/gw-1/status"])).unwrap();
    watcher.subscribed().await;
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    let session = device.up().await;
    assert!(status(&watcher.message().await.payload).online);
    device.link.close();
    assert!(device.events.recv().await.is_none());
    let farewell = status(&watcher.message().await.payload);
    assert_eq!((farewell.session, farewell.online), (session, false));
}

#[tokio::test]
async fn closing_ends_a_link_that_never_was_up() {
    let pki = Pki::new();
    let mut broker = settings(&pki, "gw-1", 1);
    broker.backoff_min = std::time::Duration::from_secs(600);
    broker.backoff_max = broker.backoff_min;
    let mut device = start("gw-1", broker);
    device.down().await;
    device.link.close();
    assert!(device.events.recv().await.is_none());
}

#[tokio::test]
async fn subscriptions_come_back_after_the_broker_was_restarted() {
    let pki = Pki::new();
    let mut broker = Mosquitto::start(&pki);
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    device.link.subscribe(topics(&["repo/a", "repo/b"])).unwrap();
    device.up().await;
    assert_eq!(device.subscribed().await, ["repo/a", "repo/b"]);
    broker.restart();
    device.down().await;
    assert_eq!(device.link.publish(Publish::new("x", "y")), Err(LinkRefusal::Down));
    device.up().await;
    assert_eq!(device.subscribed().await, ["repo/a", "repo/b"]);
    device.link.publish(Publish::new("repo/b", "again")).unwrap();
    assert_eq!(device.message().await.payload, "again");
}

#[tokio::test]
async fn every_publish_is_acknowledged_once_and_in_order() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    device.up().await;
    let messages = (0..3000).map(|token| Publish::new("data/x", token.to_string()).with_token(token));
    let acked = publish_all(&mut device, messages).await;
    assert_eq!(acked, (0..3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_is_lost_over_cuts_when_the_unacknowledged_is_sent_again() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let proxy = Proxy::start(broker.port).await;
    let mut sink = start("sink", settings(&pki, "sink", broker.port));
    sink.link.subscribe(topics(&["data/#"])).unwrap();
    sink.subscribed().await;
    // Taken as they come: Mosquitto drops what a slow subscriber leaves in its queue.
    let arrived = tokio::spawn(async move {
        let mut arrived = BTreeSet::new();
        while arrived.len() < 2000 {
            let message = sink.message().await;
            arrived.insert(std::str::from_utf8(&message.payload).unwrap().parse::<u64>().unwrap());
        }
    });
    let mut device = start("gw-1", settings(&pki, "gw-1", proxy.port));
    let mut waiting: BTreeSet<u64> = (0..2000).collect();
    let mut unsent: Vec<u64> = Vec::new();
    let mut acks = 0_u32;
    while !waiting.is_empty() {
        match device.next().await {
            LinkEvent::Up { .. } | LinkEvent::Down { .. } => unsent = waiting.iter().rev().copied().collect(),
            LinkEvent::Acked { token } => {
                waiting.remove(&token);
                acks += 1;
                if acks.is_multiple_of(400) {
                    proxy.cut();
                }
            }
            _ => {}
        }
        while device.link.room() > 0 {
            let Some(token) = unsent.pop() else { break };
            if device.link.publish(Publish::new("data/x", token.to_string()).with_token(token)).is_err() {
                unsent.push(token);
                break;
            }
        }
    }
    arrived.await.unwrap();
    assert!(acks >= 2000);
}

#[tokio::test]
async fn messages_of_128_kib_come_through_and_longer_ones_are_refused_at_once() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    device.link.subscribe(topics(&["blob"])).unwrap();
    device.subscribed().await;
    let payload = Bytes::from((0..128 * 1024).map(|n| n as u8).collect::<Vec<_>>());
    device.link.publish(Publish::new("blob", payload.clone())).unwrap();
    assert!(device.message().await.payload == payload);
    let long = Publish::new("blob", vec![0; 140 * 1024]);
    assert!(matches!(device.link.publish(long), Err(LinkRefusal::TooLong { .. })));
}

#[tokio::test]
async fn chunks_are_pulled_window_by_window() {
    const CHUNKS: usize = 400;
    const WINDOW: usize = 8;
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    device.up().await;
    let name = |n: usize| format!("chunk/{n}");
    let content = |n: usize| vec![n as u8; 64 * 1024];
    let messages = (0..CHUNKS).map(|n| Publish::new(name(n), content(n)).retained().with_token(n as u64));
    publish_all(&mut device, messages).await;
    for window in (0..CHUNKS).collect::<Vec<_>>().chunks(WINDOW) {
        let names: Vec<String> = window.iter().map(|n| name(*n)).collect();
        device.link.subscribe(names.clone()).unwrap();
        let mut missing: BTreeSet<String> = names.iter().cloned().collect();
        while !missing.is_empty() {
            let message = device.message().await;
            assert!(message.retained && message.payload.len() == 64 * 1024);
            missing.remove(&message.topic);
        }
        device.link.unsubscribe(&names);
    }
}

#[tokio::test]
async fn a_driver_that_is_slow_loses_nothing() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut patient = settings(&pki, "gw-1", broker.port);
    patient.keep_alive = std::time::Duration::from_secs(30);
    let mut device = start("gw-1", patient);
    let mut source = start("source", settings(&pki, "source", broker.port));
    device.link.subscribe(topics(&["flood"])).unwrap();
    device.subscribed().await;
    source.up().await;
    let messages = (0..500_u64).map(|token| Publish::new("flood", vec![token as u8; 1000]).with_token(token));
    publish_all(&mut source, messages).await;
    // All of it lies in the broker, the sockets and sixteen events; now the driver wakes up.
    for n in 0..500_u64 {
        assert_eq!(device.message().await.payload[0], n as u8);
    }
}

#[tokio::test]
async fn a_request_is_answered_where_it_asks_to_be() {
    let pki = Pki::new();
    let port = Mosquitto::start(&pki);
    let mut device = start("gw-1", settings(&pki, "gw-1", port.port));
    device.link.subscribe(topics(&["answers/1"])).unwrap();
    device.subscribed().await;
    let answer = Publish::new("answers/1", "pong").with_correlation(Some(Bytes::from_static(b"\x00\xff")));
    device.link.publish(answer).unwrap();
    let message = device.message().await;
    assert_eq!((message.payload, message.response), (Bytes::from_static(b"pong"), None));
}

#[tokio::test]
async fn a_publish_that_the_access_list_forbids_is_refused_by_name() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    device.up().await;
    device.link.publish(Publish::new("forbidden/x", "1").with_token(5)).unwrap();
    device.link.publish(Publish::new("allowed", "1").with_token(6)).unwrap();
    device.link.publish(Publish::new("not/+/valid", "1").with_token(7)).unwrap();
    let refused = |event: &LinkEvent| match event {
        LinkEvent::PublishRefused { token, error } => Some((*token, error.clone())),
        _ => None,
    };
    let mut tokens = BTreeSet::new();
    for _ in 0..2 {
        let (token, error) = device.until(refused).await;
        assert!(matches!(error, LinkError::PublishRefused { .. }), "{error}");
        tokens.insert(token);
    }
    assert_eq!(tokens, BTreeSet::from([5, 7]));
    let acked = device.passed.iter().any(|event| matches!(event, LinkEvent::Acked { token: 6 }));
    assert!(acked || device.acked().await == 6);
}

#[tokio::test]
async fn a_refused_subscription_is_told() {
    let pki = Pki::new();
    let port = misbehaving::start(&pki, Script::Suback(0x87));
    let mut device = start("gw-1", settings(&pki, "gw-1", port));
    device.link.subscribe(topics(&["secret"])).unwrap();
    let (topic, error) = device
        .until(|event| match event {
            LinkEvent::SubscribeRefused { topic, error } => Some((topic.clone(), error.to_string())),
            _ => None,
        })
        .await;
    assert!(topic == "secret" && error.contains("not authorized"), "{error}");
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_given_up() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let proxy = Proxy::start(broker.port).await;
    let mut device = start("gw-1", settings(&pki, "gw-1", proxy.port));
    device.up().await;
    proxy.silence(true);
    let error = device.down().await;
    assert!(matches!(error, LinkError::Silent { .. } | LinkError::NoProgress { .. }), "{error}");
    proxy.silence(false);
    proxy.cut();
    device.up().await;
}

#[tokio::test]
async fn a_broker_that_answers_pings_and_no_publish_is_given_up() {
    let pki = Pki::new();
    let port = misbehaving::start(&pki, Script::AnswerPingsOnly);
    let mut device = start("gw-1", settings(&pki, "gw-1", port));
    device.up().await;
    let error = device.down().await;
    assert_eq!(error, LinkError::NoProgress { what: "a publish", seconds: 2 });
    device.up().await;
}

#[tokio::test]
async fn never_more_than_the_bound_is_with_the_broker() {
    let pki = Pki::new();
    let port = misbehaving::start(&pki, Script::AnswerPingsOnly);
    let mut device = start("gw-1", settings(&pki, "gw-1", port));
    device.up().await;
    let mut sent = 0;
    let refusal = loop {
        match device.link.publish(Publish::new("t", "x").with_token(sent)) {
            Ok(()) => sent += 1,
            Err(refusal) => break refusal,
        }
        // The task takes what it may.
        tokio::task::yield_now().await;
    };
    assert_eq!(refusal, LinkRefusal::Busy);
    assert!(sent <= u64::from(MAX_OUTSTANDING) + 64, "{sent}");
}

#[tokio::test]
async fn a_broker_that_closes_is_an_error_and_no_panic() {
    let pki = Pki::new();
    for script in [Script::CloseAtConnect, Script::CloseAfterConnack] {
        let mut device = start("gw-1", settings(&pki, "gw-1", misbehaving::start(&pki, script)));
        for _ in 0..3 {
            let error = device.down().await;
            assert!(matches!(error, LinkError::Broken { .. }), "{script:?}: {error}");
        }
    }
}

#[tokio::test]
async fn what_is_not_mqtt_or_too_long_is_refused_by_name() {
    let pki = Pki::new();
    let mut device = start("gw-1", settings(&pki, "gw-1", misbehaving::start(&pki, Script::Nonsense)));
    let error = device.down().await;
    assert!(matches!(error, LinkError::Protocol { .. }), "{error}");
    let mut device = start("gw-1", settings(&pki, "gw-1", misbehaving::start(&pki, Script::SendTooLong)));
    let error = device.down().await;
    assert!(matches!(error, LinkError::PacketTooLong { direction: "received", .. }), "{error}");
}

#[tokio::test]
async fn a_message_that_the_broker_finds_too_long_costs_no_connection() {
    let pki = Pki::new();
    let mut device = start("gw-1", settings(&pki, "gw-1", misbehaving::start(&pki, Script::MaxPacket(1000))));
    device.up().await;
    device.link.publish(Publish::new("t", vec![0; 2000]).with_token(1)).unwrap();
    device.link.publish(Publish::new("t", vec![0; 500]).with_token(2)).unwrap();
    assert_eq!(device.acked().await, 2);
    let refused = device.passed.iter().any(|event| {
        matches!(event, LinkEvent::PublishRefused { token: 1, error: LinkError::PacketTooLong { max: 1000, .. } })
    });
    assert!(refused, "{:?}", device.passed);
}

#[tokio::test]
async fn a_message_without_guarantee_needs_no_acknowledgement() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    device.link.subscribe(topics(&["log"])).unwrap();
    device.subscribed().await;
    for _ in 0..200 {
        let line = Publish { qos: Qos::AtMostOnce, ..Publish::new("log", "line") };
        while device.link.publish(line.clone()).is_err() {
            device.message().await;
        }
    }
    device.link.publish(Publish::new("log", "last")).unwrap();
    while device.message().await.payload != "last" {}
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_error() {
    let pki = Pki::new();
    let other = Pki::new();
    let good = Mosquitto::start(&pki);
    let expired = Mosquitto::with(&pki, &["localhost"], true);
    let named = Mosquitto::with(&pki, &["broker.example"], false);
    let base = settings(&pki, "gw-1", good.port);
    let absent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let (late_cert, late_key) = pki.expired_device("gw-1");
    let (foreign_cert, foreign_key) = other.device("gw-1");

    let mut device = start("gw-1", settings(&pki, "gw-1", absent));
    assert!(matches!(device.down().await, LinkError::Absent { .. }));
    let mut device = start("gw-1", sanderling_agent::settings::BrokerSettings { ca: other.ca(), ..base.clone() });
    assert_eq!(device.down().await, LinkError::WrongAuthority { ca: other.ca() });
    let mut device = start("gw-1", settings(&pki, "gw-1", expired.port));
    assert_eq!(device.down().await, LinkError::BrokerCertificateDate { problem: "expired" });
    let mut device = start("gw-1", settings(&pki, "gw-1", named.port));
    assert_eq!(device.down().await, LinkError::BrokerName { host: "localhost".to_owned() });
    for (cert, key) in [(late_cert, late_key), (foreign_cert, foreign_key)] {
        let broker = sanderling_agent::settings::BrokerSettings { cert: cert.clone(), key, ..base.clone() };
        let mut device = start("gw-1", broker);
        let error = device.down().await;
        assert!(matches!(&error, LinkError::DeviceCertificate { cert: named, .. } if *named == cert), "{error}");
    }
    let mut device = start("gw-1", settings(&pki, "gw-1", misbehaving::start(&pki, Script::Refuse(0x87))));
    let error = device.down().await;
    assert!(matches!(&error, LinkError::Refused { reason, .. } if reason == "not authorized"), "{error}");
    let mut missing = base.clone();
    missing.key = "/nowhere/gw.key".into();
    let error = start("gw-1", missing).down().await;
    assert!(matches!(error, LinkError::Credentials { .. }), "{error}");
}

#[tokio::test]
async fn a_mosquitto_on_which_nothing_can_work_is_reported_with_cause_and_cure() {
    let pki = Pki::new();
    for (says, words) in [
        ("retain_available false", ["retain", "`retain_available true`"]),
        ("max_qos 0", ["qos not supported", "`max_qos 1`"]),
    ] {
        let broker = Mosquitto::that(&pki, says);
        let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
        let error = device.down().await;
        let said = error.to_string();
        assert!(matches!(error, LinkError::Refused { .. } | LinkError::Unfit { .. }), "{says}: {said}");
        assert!(words.iter().all(|word| said.to_lowercase().contains(word)), "{says}: {said}");
    }
}

#[tokio::test]
async fn what_mosquitto_says_of_itself_is_told() {
    let pki = Pki::new();
    let broker = Mosquitto::that(&pki, "max_inflight_messages 7\nmax_packet_size 65536\nmax_keepalive 20");
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    let said = device
        .until(|event| match event {
            LinkEvent::Up { broker, .. } => Some(*broker),
            _ => None,
        })
        .await;
    let wanted = BrokerLimits { receive_maximum: 7, maximum_packet: 65_536, ..BrokerLimits::default() };
    assert_eq!(said, wanted);
}

#[tokio::test]
async fn two_devices_with_one_id_are_told_of_each_other() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut first = start("gw-1", settings(&pki, "gw-1", broker.port));
    first.up().await;
    let mut second = start("gw-1", settings(&pki, "gw-1", broker.port));
    second.up().await;
    // Mosquitto says so in a DISCONNECT, or just closes.
    let error = first.down().await;
    assert!(error.to_string().contains("same id"), "{error}");
}

#[tokio::test]
async fn a_connection_without_anything_to_do_gets_on_by_its_pings() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    device.up().await;
    let mark = device.link.mark();
    assert!(mark.within.is_some_and(|within| within < std::time::Duration::from_secs(60)), "{mark:?}");
    // Birth, SUBACK and all that are over by then; pings go on for ever.
    while device.link.mark().steps < mark.steps + 8 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_without_a_last_will() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let mut watcher = start("watcher", settings(&pki, "watcher", broker.port));
    watcher.link.subscribe(topics(&["sanderling/v1/device/gw-1/status"])).unwrap();
    watcher.subscribed().await;
    let mut device = start("gw-1", settings(&pki, "gw-1", broker.port));
    let mut sessions = vec![device.up().await];
    for _ in 0..3 {
        // Certificate and key of the same names as before, one after the other.
        pki.device("gw-1");
        assert_eq!(device.down().await, LinkError::Renewed);
        sessions.push(device.up().await);
    }
    for session in &sessions {
        let birth = status(&watcher.message().await.payload);
        assert_eq!((&birth.session, birth.online), (session, true), "{sessions:?}");
    }
    // Nothing but the connection is new.
    assert_eq!(publish_all(&mut device, [Publish::new("data/x", "1").with_token(7)]).await, [7]);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_and_the_connection_stands() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let settings = settings(&pki, "gw-1", broker.port);
    let mut device = start("gw-1", settings.clone());
    device.up().await;
    let key = std::fs::read(&settings.key).unwrap();
    pki.device("gw-1");
    // The old key again, in the moment after.
    std::fs::write(&settings.key, key).unwrap();
    let refused = device
        .until(|event| match event {
            LinkEvent::Certificate { refused: Some(error), .. } => Some(error.to_string()),
            _ => None,
        })
        .await;
    assert!(refused.contains("does not go with"), "{refused}");
    assert_eq!(publish_all(&mut device, [Publish::new("data/x", "1").with_token(7)]).await, [7]);
    assert!(!device.passed.iter().any(|event| matches!(event, LinkEvent::Down { .. })), "{:?}", device.passed);
    pki.device("gw-1");
    assert_eq!(device.down().await, LinkError::Renewed);
}

#[tokio::test]
async fn a_probe_tells_how_far_the_way_to_the_broker_goes() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let base = settings(&pki, "gw-1", broker.port);
    let last = async |broker| probe(&broker).await.pop().unwrap();
    let (stage, said) = last(base.clone()).await;
    assert_eq!(stage, Stage::Tls);
    assert!(said.as_ref().is_ok_and(|said| said.contains("TLSv1")), "{said:?}");
    let device = "gw-1".parse().unwrap();
    assert!(connect(&base, &device).await.unwrap().contains("takes gw-1"));

    let nowhere = sanderling_agent::settings::BrokerSettings { host: "nowhere.invalid".to_owned(), ..base.clone() };
    assert!(matches!(last(nowhere).await, (Stage::Name, Err(_))));
    let other = Pki::new();
    let strange = sanderling_agent::settings::BrokerSettings { ca: other.ca(), ..base.clone() };
    assert!(matches!(last(strange).await, (Stage::Tls, Err(LinkError::WrongAuthority { .. }))));
    let (cert, key) = pki.expired_device("gw-1");
    let late = sanderling_agent::settings::BrokerSettings { cert, key, ..base.clone() };
    assert!(matches!(last(late).await, (Stage::Tls, Err(LinkError::DeviceCertificate { .. }))));
    drop(broker);
    assert!(matches!(last(base).await, (Stage::Tcp, Err(LinkError::Absent { .. }))));
}

#[tokio::test]
async fn a_probe_up_to_tls_disturbs_no_session_of_the_same_device() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let base = settings(&pki, "gw-1", broker.port);
    let mut device = start("gw-1", base.clone());
    device.up().await;
    assert!(probe(&base).await.iter().all(|(_, result)| result.is_ok()));
    assert_eq!(publish_all(&mut device, [Publish::new("data/x", "1").with_token(7)]).await, [7]);
    assert!(!device.passed.iter().any(|event| matches!(event, LinkEvent::Down { .. })), "{:?}", device.passed);
    connect(&base, &"gw-1".parse().unwrap()).await.unwrap();
    device.down().await;
}
