//! Documents that are signed, and those that devices report.

use std::collections::BTreeMap;

use sanderling_protocol::{
    command::Answer,
    deployment::{Deployment, DeploymentError, MAX_BINDINGS, MAX_DOCUMENT, MAX_MODULES, is_name},
    release::{Ceiling, Release},
    reported::{Event, Reported, Status},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A deployment document.
///
/// What is accepted is bounded, has names that are names, fits a ceiling of just what it asks for and no lower one, and is read again as
/// it was written.
pub fn deployment(bytes: &[u8]) {
    let Ok(mut deployment) = Deployment::parse(bytes) else { return };
    assert!(bytes.len() <= MAX_DOCUMENT && deployment.modules.len() <= MAX_MODULES && is_name(&deployment.name));
    for module in &mut deployment.modules {
        // Fractions lose digits when they are written; what a guest reads is the document's own text.
        module.config = Value::Null;
        assert!(is_name(&module.name) && module.channels.len() <= MAX_BINDINGS && module.input.len() <= MAX_BINDINGS);
        assert!(module.channels.keys().chain(module.models.keys()).all(|name| is_name(name)));
        let just = Ceiling {
            grants: module.grants.iter().map(ToString::to_string).collect(),
            memory_mib: module.limits.memory_mib,
            deadline_ms: module.limits.deadline_ms,
        };
        assert_eq!(module.check_ceiling(&just), Ok(()));
        let refused = |ceiling: Ceiling| assert!(module.check_ceiling(&ceiling).is_err());
        refused(Ceiling { memory_mib: just.memory_mib - 1, ..just.clone() });
        refused(Ceiling { deadline_ms: just.deadline_ms - 1, ..just.clone() });
        for grant in &just.grants {
            let others = just.grants.iter().filter(|other| *other != grant).cloned().collect();
            refused(Ceiling { grants: others, ..just.clone() });
        }
    }
    let written = serde_json::to_vec(&deployment).unwrap();
    match Deployment::parse(&written) {
        Ok(again) => assert_eq!(again, deployment),
        // Defaults are written out, so that it may have become too long.
        Err(DeploymentError::TooLong { .. }) => {}
        Err(error) => panic!("not read again: {error}"),
    }
}

/// `custom` of a target.
///
/// What is accepted is read again as it was written; no device is among nought percent, every one of the audience among a hundred.
pub fn release(bytes: &[u8]) {
    let Ok(custom) = serde_json::from_slice::<Value>(bytes) else { return };
    let Ok(release) = Release::parse(&custom) else { return };
    assert_eq!(Release::parse(&release.to_custom().unwrap()), Ok(release.clone()));
    let Release::Deployment(mut rollout) = release else { return };
    let device = "gw-1";
    let labels = BTreeMap::from([("line".to_owned(), "a".to_owned())]);
    rollout.percent = 0;
    assert!(!rollout.includes(device, &labels));
    rollout.percent = 100;
    assert_eq!(rollout.includes(device, &labels), rollout.audience.includes(device, &labels));
}

/// What a device tells the fleet: status, reported state, events, answers.
pub fn reported(bytes: &[u8]) {
    again::<Status>(bytes);
    again::<Reported>(bytes);
    if let Ok(mut answer) = serde_json::from_slice::<Answer>(bytes) {
        answer.body = None;
        again::<Answer>(&serde_json::to_vec(&answer).unwrap());
    }
    again::<Event>(bytes);
}

/// What is accepted is read again as it was written.
fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
    let written = serde_json::to_vec(&value).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), value);
}
