use super::*;
use crate::worker::{
    Fault, FaultCode, FrameDone, MAX_RECORD, MAX_STATE_KEY, MAX_STATE_VALUE, Measure, Metric, Missing, Ready,
};

fn through(bytes: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
    let mut inbox = Inbox::default();
    let mut seen = Vec::new();
    for part in bytes.chunks(step) {
        inbox.space()[..part.len()].copy_from_slice(part);
        inbox.filled(part.len());
        while let Some((tag, body)) = inbox.next().unwrap() {
            seen.push((tag, body.to_vec()));
        }
    }
    seen
}

fn samples() -> Vec<FromWorker<'static>> {
    vec![
        FromWorker::Ready(Ready {
            module_us: 1,
            models_us: 2,
            memory_bytes: 3,
            unconfined: vec![Missing { measure: Measure::Files, why: "no landlock".into() }],
        }),
        FromWorker::Running,
        FromWorker::Emit { seq: 9, channel: "defects", payload: b"{}" },
        FromWorker::Log { level: 2, text: "hello" },
        FromWorker::FrameDone(FrameDone { seq: 9, took_ns: 8, fuel: 7, memory_bytes: 6 }),
        FromWorker::FrameRefused { seq: 10, why: "not a PNG" },
        FromWorker::Denied { function: "emit" },
        FromWorker::StateSet { key: b"\0k", value: b"" },
        FromWorker::StateDelete { key: b"k" },
        FromWorker::Metric { name: "seen", metric: Metric::Counter(7.0) },
        FromWorker::Metric { name: "score.last", metric: Metric::Gauge(-0.5) },
        FromWorker::Fault(Fault::new(FaultCode::Trap, "unreachable")),
        FromWorker::Stopped,
    ]
}

#[test]
fn every_message_survives_a_stream_cut_anywhere() {
    let mut bytes = Vec::new();
    for message in samples() {
        message.encode(&mut bytes);
    }
    for step in [1, 2, 7, bytes.len()] {
        let seen = through(&bytes, step);
        let decoded: Vec<_> =
            seen.iter().map(|(tag, body)| FromWorker::decode((*tag, body.as_slice())).unwrap()).collect();
        assert_eq!(decoded, samples());
    }
}

#[test]
fn refuses_a_length_beyond_the_limit_before_waiting_for_it() {
    let mut inbox = Inbox::default();
    inbox.space()[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    inbox.filled(4);
    assert_eq!(inbox.next(), Err(WireError::Length { length: u32::MAX as usize }));
}

#[test]
fn refuses_bodies_that_do_not_fit_their_fields() {
    assert!(matches!(FromWorker::decode((tag::FRAME_DONE, &[0; 31])), Err(WireError::Body { .. })));
    assert!(matches!(FromWorker::decode((tag::FRAME_DONE, &[0; 33])), Err(WireError::Body { .. })));
    assert!(matches!(FromWorker::decode((tag::EMIT, &[0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1])), Err(WireError::Body { .. })));
    assert!(matches!(FromWorker::decode((tag::LOG, &[1, 0xff])), Err(WireError::Text { .. })));
    assert!(matches!(FromWorker::decode((tag::START, b"{}")), Err(WireError::Tag { .. })));
    assert!(matches!(ToWorker::decode((tag::START, b"{}")), Err(WireError::Json { .. })));
}

#[test]
fn a_value_of_the_state_reaches_the_worker() {
    let message = ToWorker::State { key: b"k".to_vec(), value: vec![7; MAX_STATE_VALUE] };
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    let seen = through(&bytes, 10_000);
    let decoded: Vec<_> = seen.iter().map(|(tag, body)| ToWorker::decode((*tag, body.as_slice())).unwrap()).collect();
    assert_eq!(decoded, [message]);
}

#[test]
fn refuses_keys_and_values_of_a_state_that_no_state_has() {
    let set = |key: &[u8], value: &[u8]| {
        let mut bytes = Vec::new();
        FromWorker::StateSet { key, value }.encode(&mut bytes);
        FromWorker::decode((bytes[4], &bytes[5..])).map(drop)
    };
    assert_eq!(set(&[1; MAX_STATE_KEY], &[0; MAX_STATE_VALUE]), Ok(()));
    assert!(matches!(set(b"", b"v"), Err(WireError::Body { .. })));
    assert!(matches!(set(&[1; MAX_STATE_KEY + 1], b"v"), Err(WireError::Body { .. })));
    assert!(matches!(set(b"k", &[0; MAX_STATE_VALUE + 1]), Err(WireError::Body { .. })));
    for body in [&b""[..], b"\x01", b"\x02\0k", b"\xff\xffk"] {
        assert!(matches!(FromWorker::decode((tag::STATE_SET, body)), Err(WireError::Body { .. })), "{body:?}");
        assert!(matches!(ToWorker::decode((tag::STATE, body)), Err(WireError::Body { .. })), "{body:?}");
    }
    assert!(matches!(FromWorker::decode((tag::STATE_DELETE, b"")), Err(WireError::Body { .. })));
}

#[test]
fn refuses_metrics_that_no_module_has() {
    let metric = |kind: u8, value: f64, name: &str| {
        let mut body = vec![kind];
        body.extend(value.to_le_bytes());
        body.extend(name.as_bytes());
        FromWorker::decode((tag::METRIC, &body)).map(drop)
    };
    assert_eq!(metric(0, 0.0, "a"), Ok(()));
    for (kind, value, name) in [
        (2, 1.0, "a"),
        (0, -1.0, "a"),
        (0, f64::NAN, "a"),
        (1, f64::INFINITY, "a"),
        (1, 1.0, ""),
        (1, 1.0, "a b"),
        (1, 1.0, &"x".repeat(65)),
    ] {
        assert!(matches!(metric(kind, value, name), Err(WireError::Body { .. })), "{kind} {value} {name}");
    }
    assert!(matches!(FromWorker::decode((tag::METRIC, &[0; 8])), Err(WireError::Body { .. })));
}

#[test]
fn what_a_worker_says_is_not_quoted_at_length() {
    let body = format!(r#"{{"\u001b[31m{}":1}}"#, "x".repeat(100_000));
    let said = FromWorker::decode((tag::READY, body.as_bytes())).unwrap_err().to_string();
    assert!(said.len() < 300 && said.contains("unknown field ` [31mxxx"), "{said}");
}

#[test]
fn refuses_a_record_above_the_limit() {
    let mut bytes = Vec::new();
    FromWorker::Emit { seq: 1, channel: "c", payload: &vec![0; MAX_RECORD + 1] }.encode(&mut bytes);
    assert!(matches!(FromWorker::decode((bytes[4], &bytes[5..])), Err(WireError::Body { .. })));
}
