//! Carries out what [`crate::sync`] decides, in order.

use std::sync::Arc;

use bytes::Bytes;
use sanderling_protocol::reported::{Event as Told, EventKind};

use super::{
    Driver,
    keeper::{Job, Purpose},
};
use crate::{
    outbox,
    sync::{Effect, Event, Plan},
};

impl Driver {
    /// Carries out what waits, up to a change that is not on disk yet.
    pub(super) fn carry_out_all(&mut self) {
        while !self.storing {
            let Some(effect) = self.queue.pop_front() else { return };
            self.carry_out(effect);
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Subscribe(what) => {
                let topics = what.iter().map(|what| self.topics.published(what)).collect();
                if let Err(error) = self.link.subscribe(topics) {
                    self.decide(Event::Refused { what: "subscribe".into(), why: error.to_string() });
                }
            }
            Effect::Unsubscribe(what) => {
                let topics: Vec<String> = what.iter().map(|what| self.topics.published(what)).collect();
                self.link.unsubscribe(&topics);
            }
            Effect::PersistTrust { files, time } => {
                let time = time.max(self.saved_time.unwrap_or(i64::MIN));
                self.saved_time = Some(time);
                self.store(Job::Trust(files, time));
            }
            Effect::PersistSlots(slots) => {
                self.slots = Some(slots.clone());
                self.store(Job::Slots(slots));
            }
            Effect::Survey { number, blobs } => self.keeper.give(Job::Survey { number, blobs }),
            Effect::Begin { digest, index } => self.keeper.give(Job::Begin(digest, index)),
            Effect::Write { blob, index, chunk, content } => {
                self.keeper.give(Job::Write { blob, index, chunk, content });
            }
            Effect::Finish { digest } => self.keeper.give(Job::Finish(digest)),
            Effect::ReadDocument { digest } => self.keeper.give(Job::Read(digest)),
            Effect::Collect { keep } => {
                self.keeper.give(Job::Collect(keep));
                self.keeper.give(Job::Usage);
            }
            Effect::Stage { generation, plan } => {
                tracing::info!(generation, deployment = %plan.slot.name, "a deployment is staged");
                self.open(generation, Purpose::Stage, plan);
            }
            Effect::Start { generation, plan } => self.start(generation, plan),
            Effect::Route { generation } => self.works.route(generation),
            Effect::Stop { generation } => self.works.stop(generation),
            Effect::Withdraw { generation, modules } => self.works.withdraw(generation, &modules),
            Effect::Count { generation } => {
                let frames = self.works.count(generation);
                self.decide(Event::Counted { generation, frames });
            }
            Effect::Tell(what) => self.tell(what),
        }
    }

    fn open(&mut self, generation: u64, purpose: Purpose, plan: Arc<Plan>) {
        self.works.open(generation, purpose);
        self.keeper.give(Job::Open { generation, purpose, plan });
    }

    fn start(&mut self, generation: u64, plan: Arc<Plan>) {
        tracing::info!(generation, deployment = %plan.slot.name, "a deployment is started");
        self.gathered.borrow_mut().states().place(generation, plan.identity);
        self.capsules.know(generation, &plan);
        let channels = self.works.place(generation, &plan);
        self.spool.configure(channels);
        self.gathered.borrow_mut().sinks.configure(&plan.deployment);
        if !self.works.launch_staged(generation) {
            self.open(generation, Purpose::Start, plan);
        }
    }

    pub(super) fn store(&mut self, job: Job) {
        self.storing = true;
        self.keeper.give(job);
    }

    /// Tells the fleet, through the outbox, and the log.
    pub(super) fn tell(&mut self, what: EventKind) {
        match &what {
            EventKind::Refused(refused) => {
                tracing::warn!(what = refused.what, why = refused.why, "refused");
                self.count_refused(refused);
            }
            EventKind::RolledBack { deployment, why, .. } => tracing::warn!(deployment, why, "rolled back"),
            EventKind::Committed { deployment, .. } => tracing::info!(deployment, "committed"),
            EventKind::Switched { deployment, handover, .. } => tracing::info!(deployment, ?handover, "switched"),
            EventKind::Fault { .. } => {}
        }
        match serde_json::to_vec(&Told { at_ms: self.clock.wall_ms(), what }) {
            Ok(payload) => self.gathered.borrow_mut().push(outbox::EVENT.into(), Bytes::from(payload)),
            Err(error) => tracing::error!(%error, "an event has no JSON form"),
        }
    }
}
