use sanderling_guest::{frame::FrameHeader, sdk::testing::Host};
use serde_json::{Value, json};

use super::*;

const VELOCITY: &str = r#"{ "review": 30, "velocity": { "payments": 3, "window_s": 60, "score": 40 } }"#;

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

/// The scores of payments by their account and time, each in an instance of its own.
fn scores(host: &mut Host, payments: &[(&str, i64)]) -> Vec<Value> {
    let judge = |(account, at): &(&str, i64)| {
        let guest = host.start::<FraudRule>().unwrap();
        let mut payment = payment();
        (payment["account"], payment["at"]) = (json!(account), json!(at));
        host.frame_bytes(&guest, "till", payment.to_string().as_bytes()).unwrap();
        serde_json::from_slice::<Value>(&host.emitted()[0].1).unwrap()["score"].clone()
    };
    payments.iter().map(judge).collect()
}

#[test]
fn an_account_that_pays_more_often_than_usual_is_noticed() {
    let mut host = Host::new(VELOCITY);
    host.grant_state(10_000);
    let times = [0, 10, 20, 30, 59, 60, 69, 70, 200].map(|at| ("4711", at));
    assert_eq!(scores(&mut host, &times), [0, 0, 0, 40, 40, 40, 40, 40, 0]);
    assert_eq!(
        scores(&mut host, &[("4711", 260), ("4711", 320), ("4711", 380), ("4711", 440)]),
        [0; 4],
        "a minute apart"
    );
    assert_eq!(
        scores(&mut host, &[("a", 0), ("b", 0), ("a", 1), ("b", 1), ("", 2), ("", 2), ("", 2), ("", 2)]),
        [0; 8]
    );
    let kept: Vec<u8> = host.state().into_iter().flat_map(|(key, value)| [key, value].concat()).collect();
    assert!(!String::from_utf8(kept).unwrap().contains("4711"), "of an account nothing but its hash is kept");
}

#[test]
fn a_verdict_names_the_rule_on_velocity() {
    let mut host = Host::new(VELOCITY);
    host.grant_state(10_000);
    scores(&mut host, &[("a", NOON); 3]);
    let guest = host.start::<FraudRule>().unwrap();
    let mut payment = payment();
    payment["account"] = json!("a");
    host.frame_bytes(&guest, "till", payment.to_string().as_bytes()).unwrap();
    let verdict: Value = serde_json::from_slice(&host.emitted()[0].1).unwrap();
    assert_eq!((&verdict["verdict"], &verdict["rules"]), (&json!("review"), &json!(["velocity"])));
}

#[test]
fn accounts_are_remembered_within_bounds_and_the_one_that_paid_longest_ago_is_forgotten() {
    let mut host = Host::new(VELOCITY);
    host.grant_state(131_072);
    let accounts: Vec<String> = (0..4000).map(|account| format!("account {account}")).collect();
    let payments: Vec<_> = accounts.iter().flat_map(|account| [(account.as_str(), NOON); 3]).collect();
    assert!(scores(&mut host, &payments).iter().all(|score| *score == json!(0)));
    let sets: Vec<Vec<Value>> = host.state().values().map(|set| serde_json::from_slice(set).unwrap()).collect();
    assert!(sets.len() <= 256 && sets.iter().all(|set| set.len() <= 8), "{}", sets.len());
    assert!(host.logged(Level::Error).is_empty(), "there is room for all");
    assert_eq!(scores(&mut host, &[("account 3999", NOON), ("account 0", NOON)]), [40, 0]);
}

#[test]
fn where_the_quota_ends_less_is_remembered_and_each_payment_is_judged() {
    let mut host = Host::new(VELOCITY);
    host.grant_state(200);
    let accounts: Vec<String> = (0..100).map(|account| format!("account {account}")).collect();
    let payments: Vec<_> = accounts.iter().map(|account| (account.as_str(), NOON)).collect();
    assert_eq!(scores(&mut host, &payments).len(), 100);
    assert!(host.logged(Level::Error)[0].contains("raise the grant state:<bytes>"));
    assert!(!host.state().is_empty());
}

#[test]
fn velocity_without_its_grant_or_without_a_number_is_refused_at_the_start() {
    let mut host = Host::new(VELOCITY);
    assert_eq!(host.start::<FraudRule>().err(), Some(Fault::CONFIG));
    assert!(host.logged(Level::Error)[0].contains("state:<bytes>"));
    let mut host = Host::new(r#"{"velocity": {"payments": 0, "window_s": 60, "score": 1}}"#);
    assert_eq!(host.grant_state(9).start::<FraudRule>().err(), Some(Fault::CONFIG));
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
