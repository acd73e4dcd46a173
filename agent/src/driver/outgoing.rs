//! What goes to the broker: records from the outbox, and the reported state.
//!
//! Invariant: a record stays in the outbox until its acknowledgement; what the link does not take now is offered again.

use sanderling_protocol::reported::Reported;

use super::{Driver, keeper::Job};
use crate::{
    link::{LinkRefusal, MAX_WAITING, Publish, Qos},
    outbox::{Record, Room},
    report,
};

/// Publishes that are kept free for reports and answers.
const ROOM_KEPT: usize = 4;
/// Publishes of those for records that are kept free of the backlog, so that it never takes all: a fresh event goes at once.
const ROOM_FRESH: usize = MAX_WAITING / 2;

impl Driver {
    /// Gives the outbox what guests and this loop have said.
    pub(super) fn hand_over_records(&mut self) {
        let said = self.gathered.borrow_mut().take();
        if !said.is_empty() {
            self.spool.push(said);
            self.more_records();
        }
    }

    /// Sends the lines that somebody asked for, as far as the link takes them beside records and reports.
    pub(super) fn send_lines(&mut self) {
        loop {
            let line = self.gathered.borrow_mut().logs.next();
            let Some(line) = line else { return };
            let Ok(payload) = serde_json::to_vec(&line) else { continue };
            let topic = self.topics.device(&self.settings.device, "log");
            let publish = Publish { qos: Qos::AtMostOnce, ..Publish::new(topic, payload) };
            let sent = self.link.room() > ROOM_KEPT && self.link.publish(publish).is_ok();
            if !sent {
                self.gathered.borrow_mut().logs.lost(&line);
            }
        }
    }

    /// Sends what publishers have to say, as far as the link takes it beside records and reports.
    pub(super) fn send_discoveries(&mut self) {
        while self.link.room() > ROOM_KEPT
            && let Some(publish) = self.publishers.next()
        {
            match self.link.publish(publish) {
                Ok(()) => {}
                Err(error @ LinkRefusal::TooLong { .. }) => tracing::error!(%error, "a discovery message was dropped"),
                Err(_) => return,
            }
            self.publishers.sent();
        }
    }

    pub(super) fn more_records(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.more = true;
        }
    }

    pub(super) fn records(&mut self, epoch: u64, records: Vec<Record>) {
        let Some(connection) = self.connection.as_mut().filter(|_| epoch == self.epoch) else { return };
        connection.asking = false;
        connection.more |= !records.is_empty();
        connection.unsent.extend(records);
    }

    /// Publishes what the outbox gave, and asks for more while there is room.
    pub(super) fn drain(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        while let Some(record) = connection.unsent.front() {
            let topic = self.topics.device(&self.settings.device, &record.channel);
            let publish = Publish::new(topic, record.payload.clone()).with_token(record.id);
            match self.link.publish(publish) {
                Ok(()) => {}
                Err(error @ LinkRefusal::TooLong { .. }) => {
                    tracing::error!(%error, channel = record.channel, "a record was dropped");
                    self.spool.refused(record.id);
                }
                Err(_) => return,
            }
            connection.unsent.pop_front();
        }
        let room = self.link.room().saturating_sub(ROOM_KEPT);
        if connection.more && !connection.asking && room > 0 {
            (connection.asking, connection.more) = (true, false);
            let backlog = room.saturating_sub(ROOM_FRESH);
            self.spool.next(Room { most: room, backlog }, self.epoch);
        }
    }

    pub(super) fn report_if_due(&mut self) {
        let now = self.mono();
        if self.connection.is_some() && self.pace.due_at().is_some_and(|at| at <= now) {
            let Some(report) = self.build_report() else { return };
            if self.pace.made(&report, now) {
                self.publish_report(&report);
            }
        }
    }

    pub(super) fn build_report(&self) -> Option<Reported> {
        let session = self.connection.as_ref()?.session.clone();
        Some(report::build(report::Parts {
            device: self.settings.device.clone(),
            session,
            sync: self.sync.report(self.unix()),
            modules: self.works.reports(self.sync.generation()),
            sensors: self.sensors.reports(),
            sinks: self.gathered.borrow().sinks.reports(),
            storage: self.storage(),
            outbox: self.spool.figures(),
            certificate_expires: self.certificate_expires,
        }))
    }

    pub(super) fn publish_report(&mut self, report: &Reported) {
        self.keeper.give(Job::Usage);
        self.publishers.reported(report);
        let payload = match serde_json::to_vec(report) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!(%error, "the report has no JSON form"),
        };
        let topic = self.topics.device(&self.settings.device, "reported");
        if let Err(error) = self.link.publish(Publish::new(topic, payload).retained()) {
            tracing::warn!(%error, "the report was not published");
            self.pace.forget();
        }
        let status = match &report.deployment {
            Some(deployment) => format!("connected; {} is {:?}", deployment.name, deployment.state),
            None => "connected; nothing is deployed to this device".into(),
        };
        if status != self.status {
            self.notify.status(&status);
            self.status = status;
            // Something was reached: what led there is not needed for a while.
            sanderling_pages::give_back();
        }
    }
}
