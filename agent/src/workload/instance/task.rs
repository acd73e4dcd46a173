//! The task of a module: it owns the worker, again and again, until the module is stopped. Once launched, it carries out what
//! [`supervise`](crate::workload::supervise) decides, and while a worker lives ([`life`]), hears what it says.

use std::{rc::Rc, time::Duration};

use sanderling_protocol::{
    reported::ModuleState,
    worker::{Fault, FaultCode},
};

use super::{Ask, Instance};
use crate::workload::{
    Happened, Record, Recorded,
    flight::FlightFile,
    life::{self, End},
    supervise::{Effect, Event, Supervision},
};

/// Tells of the end of a task, however it ends.
struct Ending(Rc<Instance>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.set(true);
        self.0.ends.notify_waiters();
    }
}

/// The task of a module: returns when it was stopped.
pub(in super::super) async fn run(instance: Rc<Instance>) {
    let _ending = Ending(instance.clone());
    if wait_for_launch(&instance).await {
        supervise(&instance).await;
    }
    instance.inlet.close();
    instance.tell(Happened::Stopped);
}

/// Until it may begin; `false` where it is stopped before.
async fn wait_for_launch(instance: &Instance) -> bool {
    loop {
        tokio::select! {
            () = async {
                instance.launched().await;
                instance.alone().await;
            } => return true,
            ask = instance.asked() => match ask {
                Ask::Stop | Ask::Drain => return false,
                Ask::Restart => instance.asked.set(None),
            },
        }
    }
}

/// Returns when it was stopped.
async fn supervise(instance: &Rc<Instance>) {
    let (mut supervision, mut effect) = Supervision::new(instance.spec.module.restart);
    loop {
        instance.show(&supervision);
        let event = match effect {
            Effect::Launch => launch(instance, &mut supervision).await,
            Effect::Wait(until) => pause(instance, until).await,
            Effect::Rest if supervision.state() == ModuleState::Stopped => return,
            Effect::Rest => event_of(instance.asked().await),
        };
        if event == Event::Restart {
            instance.restarting();
        }
        match supervision.step(event, instance.now()) {
            Ok((next, wanted)) => (supervision, effect) = (next, wanted),
            // Cannot be by the construction of this loop; a module that got lost is better at rest than gone.
            Err(illegal) => {
                tracing::error!(module = instance.name(), "{illegal}");
                effect = Effect::Rest;
            }
        }
        if event == Event::Faulted {
            instance.show(&supervision);
            faulted(instance, &supervision);
        }
    }
}

/// Runs one worker from its start to its end.
async fn launch(instance: &Rc<Instance>, supervision: &mut Supervision) -> Event {
    let end = life::live(instance, |now| {
        if let Ok((next, _)) = supervision.step(Event::Running, now) {
            *supervision = next;
            instance.show(supervision);
        }
    })
    .await;
    instance.tally.borrow_mut().pid = None;
    match end {
        End::Asked(ask) => event_of(ask),
        End::Fault(ended) => {
            let (mut fault, flight) = *ended;
            let at_hand = instance.inlet.shut();
            fault.seq = fault.seq.or(at_hand);
            fault.module = Some(instance.spec.wasm.sha256);
            let fault = told(instance, fault, flight);
            instance.tally.borrow_mut().fault = Some(fault);
            Event::Faulted
        }
    }
}

/// The fault with what its record adds, and the name of its capsule where one is kept.
fn told(instance: &Instance, mut fault: Fault, flight: Option<FlightFile>) -> Fault {
    let Some(flight) = flight else { return fault };
    let Some(glance) = flight.glance() else { return fault };
    if fault.code == FaultCode::Crash || fault.frame.is_none() {
        // What a worker could not say any more.
        fault.host_calls = fault.host_calls.max(glance.host_calls);
        fault.frame = fault.frame.or(glance.frame.filter(|_| fault.seq.is_some()));
    }
    let (partial, length) = (glance.partial, glance.length);
    let recorded = Recorded { fault: Some(&fault), partial, length, record: Record::Flight(flight) };
    fault.capsule = instance.ports.capsules.keep(instance.generation, &instance.spec, recorded);
    fault
}

fn faulted(instance: &Instance, supervision: &Supervision) {
    let quarantined = supervision.state() == ModuleState::Quarantined;
    if quarantined {
        instance.inlet.close();
    }
    let fault = {
        let mut tally = instance.tally.borrow_mut();
        tally.faults += 1;
        let fault = tally.fault.clone();
        if let Some(code) = fault.as_ref().map(|fault| fault.code) {
            match tally.fault_codes.iter_mut().find(|(known, _)| *known == code) {
                Some((_, count)) => *count += 1,
                None => tally.fault_codes.push((code, 1)),
            }
        }
        fault
    };
    if let Some(fault) = fault {
        instance.tell(Happened::Fault { fault, quarantined });
    }
}

async fn pause(instance: &Instance, until: Duration) -> Event {
    let rest = until.saturating_sub(instance.now());
    tokio::select! {
        ask = instance.asked() => event_of(ask),
        () = tokio::time::sleep(rest) => Event::Due,
    }
}

fn event_of(ask: Ask) -> Event {
    match ask {
        Ask::Stop | Ask::Drain => Event::Stop,
        Ask::Restart => Event::Restart,
    }
}
