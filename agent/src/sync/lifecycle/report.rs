//! What a lifecycle says of itself.

use sanderling_protocol::reported::{DeploymentReport, DeploymentState};

use super::{Active, Lifecycle, Next};
use crate::sync::pull::Pull;

impl Lifecycle {
    /// The generation that frames go to.
    pub(in crate::sync) fn generation(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.generation)
    }

    /// The deployment as it is reported.
    pub(in crate::sync) fn report(&self, pull: &Pull) -> Option<DeploymentReport> {
        let (name, version, digest) = match (&self.desired, &self.active) {
            (Some(desired), _) => (&desired.name, desired.version, desired.digest),
            (None, Some(active)) => (&active.plan.slot.name, active.plan.slot.version, active.plan.slot.digest),
            (None, None) => return None,
        };
        let fetching = match &self.next {
            Some(Next::Fetching(plan)) => Some(pull.progress(&plan.blobs())),
            _ => None,
        };
        Some(DeploymentReport {
            name: name.clone(),
            version,
            digest,
            state: self.state(),
            progress: fetching.or(self.progress),
            why: self.verdict.as_ref().filter(|_| self.desired.is_some()).map(|verdict| verdict.why.clone()),
            handover: self
                .active
                .as_ref()
                .filter(|active| active.plan.slot.digest == digest)
                .and_then(|active| active.handover.clone()),
        })
    }

    fn is_desired(&self, active: &Active) -> bool {
        self.desired.as_ref().is_none_or(|desired| desired.digest == active.plan.slot.digest)
    }

    /// Whether what runs is pulled again, since it turned out damaged.
    #[cfg(test)]
    pub(in crate::sync) fn wants_repair(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.damaged)
    }

    /// How far what lies ahead is, in a word; or else what runs.
    #[cfg(test)]
    pub(in crate::sync) fn phase(&self) -> &'static str {
        match (&self.next, &self.active, &self.verdict) {
            (Some(Next::Document(_)), ..) => "document",
            (Some(Next::Reading(_)), ..) => "reading",
            (Some(Next::Fetching(_)), ..) => "fetching",
            (Some(Next::Short(_)), ..) => "short",
            (Some(Next::Staging(..)), ..) => "staging",
            (Some(Next::Starting { .. }), ..) => "starting",
            (None, _, Some(_)) => "refused",
            (None, Some(active), None) if active.damaged => "damaged",
            (None, Some(active), None) if active.starts > 0 => "trial",
            (None, Some(_), None) => "committed",
            (None, None, None) => "nothing",
        }
    }

    /// The number of the dry start or start that is under way, or else of what runs.
    #[cfg(test)]
    pub(in crate::sync) fn number(&self) -> u64 {
        match (&self.next, &self.active) {
            (Some(Next::Staging(_, number) | Next::Starting { generation: number, .. }), _) => *number,
            (_, active) => active.as_ref().map_or(0, |active| active.generation),
        }
    }

    fn state(&self) -> DeploymentState {
        match (&self.verdict, &self.next, &self.active) {
            (Some(verdict), ..) if self.desired.is_some() => verdict.state,
            (_, Some(Next::Document(_) | Next::Reading(_) | Next::Fetching(_)), _) => DeploymentState::Fetching,
            (_, Some(Next::Staging(..) | Next::Starting { .. }), _) => DeploymentState::Staging,
            (_, None, Some(active)) if active.damaged || !self.is_desired(active) => DeploymentState::Fetching,
            (_, None, Some(active)) if active.starts > 0 => DeploymentState::Probation,
            (_, None, Some(_)) => DeploymentState::Active,
            (_, Some(Next::Short(_)), _) => DeploymentState::Refused,
            (_, None, None) => DeploymentState::Fetching,
        }
    }
}
