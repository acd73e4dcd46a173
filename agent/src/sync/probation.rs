//! Probation: how long a new deployment must run without a fault before it is committed.
//!
//! Each module asks for frames handled and seconds passed; both must be reached by every module. A module without an
//! input handles no frames, so for it only the seconds count. A fault ends probation at once; that is decided elsewhere.

use sanderling_protocol::deployment::Deployment;

/// How often frames are counted once the seconds have passed, in milliseconds.
const COUNT_EVERY_MS: u64 = 500;

/// A probation that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probation {
    wanted: Vec<(String, u64)>,
    until_ms: u64,
    next_ms: u64,
}

impl Probation {
    /// Begins now.
    pub(super) fn begin(deployment: &Deployment, now_ms: u64) -> Self {
        let seconds = deployment.modules.iter().map(|module| module.probation.seconds).max().unwrap_or(0);
        let until_ms = now_ms.saturating_add(u64::from(seconds) * 1000);
        let counted = deployment.modules.iter().filter(|module| !module.input.is_empty());
        let wanted = counted.map(|module| (module.name.clone(), u64::from(module.probation.frames))).collect();
        Self { wanted, until_ms, next_ms: until_ms }
    }

    /// When the frames are to be counted next, in milliseconds.
    pub(super) fn wake_at(&self) -> u64 {
        self.next_ms
    }

    /// Whether the frames are to be counted now.
    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        let due = now_ms >= self.next_ms;
        if due {
            self.next_ms = now_ms.saturating_add(COUNT_EVERY_MS);
        }
        due
    }

    /// Whether the deployment has proved itself; `frames` are those that each module has handled since it was started.
    pub(super) fn is_passed(&self, now_ms: u64, frames: &[(String, u64)]) -> bool {
        let handled = |name: &str| frames.iter().find(|(module, _)| module == name).map_or(0, |(_, frames)| *frames);
        now_ms >= self.until_ms && self.wanted.iter().all(|(name, wanted)| handled(name) >= *wanted)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        Deployment::parse(
            br#"{"schema":"sanderling.deployment/1","name":"d","modules":[
            {"name":"a","module":"modules/a","input":[{"sensor":"s"}],"probation":{"frames":10,"seconds":3}},
            {"name":"b","module":"modules/b","input":[{"sensor":"s"}],"probation":{"frames":2,"seconds":5}},
            {"name":"idle","module":"modules/c","input":[],"probation":{"frames":9,"seconds":1}}]}"#,
        )
        .unwrap()
    }

    fn frames(a: u64, b: u64) -> Vec<(String, u64)> {
        vec![("b".into(), b), ("a".into(), a)]
    }

    #[test]
    fn needs_frames_and_seconds_of_every_module() {
        let probation = Probation::begin(&deployment(), 1000);
        assert_eq!(probation.wake_at(), 6000);
        assert!(!probation.is_passed(5999, &frames(10, 2)), "too early for b");
        assert!(!probation.is_passed(6000, &frames(9, 2)), "too few frames of a");
        assert!(!probation.is_passed(6000, &[]));
        assert!(probation.is_passed(6000, &frames(10, 2)));
    }

    #[test]
    fn counts_no_more_often_than_needed() {
        let mut probation = Probation::begin(&deployment(), 0);
        assert!(!probation.is_due(4999));
        assert!(probation.is_due(5000));
        assert!(!probation.is_due(5100));
        assert_eq!(probation.wake_at(), 5500);
    }

    #[test]
    fn a_deployment_of_nothing_proves_itself_at_once() {
        let nothing = Deployment::parse(br#"{"schema":"sanderling.deployment/1","name":"d","modules":[]}"#).unwrap();
        assert!(Probation::begin(&nothing, 7).is_passed(7, &[]));
    }
}
