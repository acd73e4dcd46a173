use sanderling_guest::{frame::FrameHeader, sdk::testing::Host};
use serde_json::{Value, json};

use super::*;

/// Monday, 1 June 2026, 12:00 UTC.
const NOON: i64 = 1_780_315_200;

fn config() -> Value {
    json!({
        "review": 30, "decline": 80,
        "amounts": { "EUR": [ { "over": 10_000, "score": 20 }, { "over": 100_000, "score": 60 } ] },
        "other_currency": 10,
        "countries": { "home": ["DE", "AT"], "elsewhere": 25, "blocked": ["XX"] },
        "hours": { "from": 23, "to": 5, "utc_offset_min": 120, "score": 15 },
        "merchants": { "cheap watches": 40 },
        "categories": { "7995": 30 },
    })
}

fn payment() -> Value {
    json!({
        "id": "p1", "amount": 2_599, "currency": "EUR", "country": "DE", "merchant": "bakery", "category": "5462", "at": NOON,
        "terminal": "fields that no rule knows are passed over",
    })
}

/// The verdict on a frame, after another one.
fn judged(config: &Value, content: &[u8]) -> Value {
    let mut host = Host::new(&config.to_string());
    let guest = host.start::<FraudRule>().unwrap();
    let header = FrameHeader { seq: 9, ..FrameHeader::new("till", u32::try_from(content.len()).unwrap()) };
    host.frame(&guest, header, content).unwrap();
    let emitted = host.emitted();
    assert_eq!((emitted.len(), emitted[0].0.as_str()), (1, "verdicts"));
    serde_json::from_slice(&emitted[0].1).unwrap()
}

fn with(field: &str, value: Value) -> Value {
    let mut payment = payment();
    payment[field] = value;
    judged(&config(), payment.to_string().as_bytes())
}

#[test]
fn an_ordinary_payment_is_accepted() {
    let verdict = judged(&config(), payment().to_string().as_bytes());
    assert_eq!(verdict, json!({ "seq": 9, "id": "p1", "verdict": "accept", "score": 0, "rules": [] }));
}

#[test]
fn each_rule_adds_its_score_and_is_named() {
    for (field, value, score, rule) in [
        ("amount", json!(10_001), 20, "amount"),
        ("amount", json!(100_001), 60, "amount"),
        ("currency", json!("CHF"), 10, "amount"),
        ("country", json!("FR"), 25, "country"),
        ("at", json!(NOON - 12 * 3600), 15, "hour"),
        ("at", json!(NOON + 9 * 3600), 15, "hour"),
        ("merchant", json!("cheap watches"), 40, "merchant"),
        ("category", json!("7995"), 30, "category"),
    ] {
        let verdict = with(field, value.clone());
        assert_eq!((&verdict["score"], &verdict["rules"]), (&json!(score), &json!([rule])), "{field} {value}");
    }
}

#[test]
fn amounts_and_hours_end_where_they_say() {
    for (field, value) in
        [("amount", json!(10_000)), ("at", json!(NOON + 9 * 3600 - 1)), ("at", json!(NOON - 9 * 3600))]
    {
        assert_eq!(with(field, value.clone())["score"], 0, "{field} {value}");
    }
}

#[test]
fn scores_add_up_to_a_verdict() {
    let mut payment = payment();
    payment["country"] = json!("FR");
    payment["amount"] = json!(20_000);
    let verdict = judged(&config(), payment.to_string().as_bytes());
    assert_eq!((&verdict["verdict"], &verdict["score"]), (&json!("review"), &json!(45)));
    assert_eq!(verdict["rules"], json!(["amount", "country"]));
    payment["merchant"] = json!("cheap watches");
    assert_eq!(judged(&config(), payment.to_string().as_bytes())["verdict"], "decline");
}

#[test]
fn a_payment_from_a_blocked_country_is_declined_whatever_else() {
    let verdict = with("country", json!("XX"));
    assert_eq!(verdict["verdict"], "decline");
    assert_eq!(verdict["rules"], json!(["blocked_country", "country"]));
}

#[test]
fn what_cannot_be_read_is_never_accepted() {
    let mut odd = payment();
    odd["amount"] = json!(-1);
    let mut long = payment();
    long["merchant"] = json!("x".repeat(129));
    let cases = [odd.to_string(), long.to_string(), "{}".into(), "[".into(), String::new(), "\u{feff}{}".into()];
    for content in cases {
        let verdict = judged(&config(), content.as_bytes());
        assert_eq!(verdict, json!({ "seq": 9, "id": null, "verdict": "review", "score": 30, "rules": ["unreadable"] }));
    }
}

#[test]
fn scores_do_not_overflow() {
    let config =
        json!({ "decline": u32::MAX, "merchants": { "bakery": u32::MAX }, "categories": { "5462": u32::MAX } });
    let verdict = judged(&config, payment().to_string().as_bytes());
    assert_eq!((&verdict["score"], &verdict["verdict"]), (&json!(u32::MAX), &json!("decline")));
}

#[test]
fn a_config_that_no_rule_understands_is_refused_at_the_start() {
    for config in [r#"{"amount": 5}"#, r#"{"hours": {"from": 1}}"#] {
        assert_eq!(Host::new(config).start::<FraudRule>().err(), Some(Fault::CONFIG), "{config}");
    }
}
