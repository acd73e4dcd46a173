//! Power cuts in the middle of updates: the old or the new version must run after each, and the new one in the end.

use std::time::Duration;

use sanderling_protocol::reported::DeploymentState;
use sanderling_tests::{Dice, Watch};
use serde_json::{Value, json};

use crate::{
    figures::seconds,
    gateway::{Gateway, PATIENCE, Version, running},
};

/// One cut.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// How long after the operator had published.
    after: Duration,
    /// How far the gateway said that it was with the update, `None` where it had not begun.
    stage: Option<DeploymentState>,
    /// Whether it was the new version that ran first after the cut.
    new_first: bool,
    /// From the cut until that version was seen to run, with a record of it.
    back: Duration,
}

impl Cut {
    /// As one row of the result.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "after_s": seconds(self.after), "stage": self.stage(), "ran": if self.new_first { "new" } else { "old" },
            "back_s": seconds(self.back),
        })
    }

    fn stage(&self) -> String {
        self.stage.map_or_else(|| "nothing yet".to_owned(), |state| format!("{state:?}").to_lowercase())
    }

    /// Prints a table: for each stage how many cuts, and which version ran after them.
    pub(crate) fn show(cuts: &[Self]) {
        let mut stages: Vec<String> = cuts.iter().map(Self::stage).collect();
        stages.sort_unstable();
        stages.dedup();
        println!("\n| last said before the cut | cuts | the old version ran | the new one ran |\n|---|---|---|---|");
        for stage in stages {
            let here = || cuts.iter().filter(|cut| cut.stage() == stage);
            let new = here().filter(|cut| cut.new_first).count();
            println!("| {stage} | {} | {} | {new} |", here().count(), here().count() - new);
        }
        let mut back: Vec<f64> = cuts.iter().map(|cut| seconds(cut.back)).collect();
        back.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| back.get((back.len() - 1) * part / 100).copied().unwrap_or_default();
        println!("\nFrom the cut to a record of the version that ran: {} s (median), {} s (longest).", at(50), at(100));
    }
}

/// Cuts the power in the middle of so many updates, at moments within `span` after the publication.
pub(crate) fn cut(gateway: &mut Gateway, mut old: Version, count: u32, seed: u64, span: Duration) -> Vec<Cut> {
    let mut dice = Dice::new(seed);
    let mut cuts = Vec::new();
    for number in 1..=count {
        let millis = dice.below(usize::try_from(span.as_millis()).unwrap_or(usize::MAX));
        let after = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        let new = gateway.roll_out(u8::try_from(number).unwrap() + 10);
        let cut = one(gateway, old, new, after);
        eprintln!("vm: cut {number} of {count}, seed {seed}: {}", cut.to_json());
        gateway.wait_active(new);
        old = new;
        cuts.push(cut);
    }
    cuts
}

fn one(gateway: &mut Gateway, old: Version, new: Version, after: Duration) -> Cut {
    let before = gateway.wait_online(None);
    let observer = &gateway.site.observer;
    // The moment of the cut is what the seed decides.
    observer.try_wait(after, |_| None::<()>);
    gateway.machine.cut();
    let watch = Watch::start();
    let stage = observer.wait_for("a report", PATIENCE, |seen| seen.reported(&gateway.device));
    let stage = stage.deployment.filter(|deployed| deployed.digest == new.deployment).map(|deployed| deployed.state);
    gateway.wait_offline();
    gateway.machine.start();
    gateway.wait_online(Some(&before));
    let observer = &gateway.site.observer;
    let mark = observer.mark();
    let ran = observer.wait_for("a version that runs", PATIENCE, |seen| {
        let status = seen.status(&gateway.device).filter(|status| status.online && status.boot != before.boot)?;
        running(&seen.reported(&gateway.device).filter(|report| report.session == status.session)?)
    });
    gateway.wait_records("scratch", "defects", mark, 1);
    assert!(ran == old.artifact || ran == new.artifact, "neither the old nor the new version runs, but {ran}");
    Cut { after, stage, new_first: ran == new.artifact, back: watch.elapsed() }
}
