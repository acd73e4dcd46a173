//! fraud-rule on the real runtime, in a fresh instance for each payment: what it knows of an account is what it kept.

use sanderling_protocol::deployment::Execution;
use sanderling_runtime::FrameHeader;
use serde_json::{Value, json};

use crate::support::Rig;

fn judge(rig: &mut Rig, account: &str, at: i64) -> Value {
    let payment = json!({
        "id": "p", "amount": 100, "currency": "EUR", "country": "DE", "merchant": "bakery", "account": account, "at": at,
    });
    let content = payment.to_string().into_bytes();
    let header = FrameHeader::new("till", u32::try_from(content.len()).unwrap());
    let [verdict] = rig.frame(&header, &content).unwrap().try_into().unwrap();
    verdict
}

#[test]
fn fraud_rule_notices_an_account_that_pays_too_often() {
    let config = json!({ "review": 30, "velocity": { "payments": 2, "window_s": 60, "score": 40 } });
    let (mut rig, started) = Rig::with("fraud-rule", "verdicts", &config, |spec| {
        spec.execution = Execution::Isolated;
        spec.grants.push("state:4096".parse().unwrap());
    });
    started.unwrap();
    let verdicts: Vec<Value> = [("a", 0), ("a", 1), ("b", 2), ("a", 2), ("a", 90)]
        .into_iter()
        .map(|(account, at)| judge(&mut rig, account, 1_780_315_200 + at)["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["accept", "accept", "accept", "review", "accept"]);
    assert_eq!(rig.guest.state().unwrap().size().keys, 2, "a set of accounts for each of the two");
}

#[test]
fn fraud_rule_without_the_grant_for_state_is_a_fault_that_says_so() {
    let config = json!({ "velocity": { "payments": 2, "window_s": 60, "score": 40 } });
    let (fault, log) = Rig::refused("fraud-rule", &config);
    assert_eq!(fault.guest_code, Some(1001));
    assert!(log.contains("state:<bytes>"), "{log}");
}
