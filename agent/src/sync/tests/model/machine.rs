//! The device in the histories of the model.

use std::collections::BTreeSet;

use proptest_state_machine::StateMachineTest;
use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, Handover},
    topics::Published,
};
use serde_json::{Value, json};

use super::reference::{MODULES, Reference, Step, Wanted};
use crate::sync::{
    Capacity, Event,
    tests::{
        repository::{Repository, content, modules},
        world::{Device, START},
    },
};

/// After the faults have stopped, the device has this much time, in milliseconds.
const CONVERGES_WITHIN: u64 = 1_200_000;
/// And so many ticks.
const MOST_TICKS: u32 = 600;

/// A device, and the operator's repository.
pub(super) struct Machine {
    /// `None` only while the power is cut.
    device: Option<Device>,
    repository: Repository,
}

fn name(module: u8) -> String {
    format!("m{module}")
}

fn path(module: u8) -> String {
    format!("modules/m/{module}.wasm")
}

/// The modules share half of their content.
fn wasm(module: u8) -> Vec<u8> {
    [content(200, 60_000), content(module, 20_000 + 10_000 * usize::from(module))].concat()
}

fn document(wanted: &Wanted) -> Value {
    let named: Vec<_> = wanted.modules.iter().map(|module| (name(*module), path(*module))).collect();
    modules("d", &named, json!(wanted.config))
}

impl Machine {
    fn device(&mut self) -> &mut Device {
        self.device.as_mut().unwrap()
    }

    fn publish(&mut self) {
        self.repository.publish();
        let Self { device, repository } = self;
        device.as_mut().unwrap().publish(repository);
    }

    /// Cuts the power, and starts the device again up to where it waits.
    fn cut(&mut self, after: u8) {
        let mut device = self.device.take().unwrap();
        for _ in 0..after % 50 {
            device.step();
        }
        let mut device = device.cut(&self.repository);
        device.run();
        self.device = Some(device);
    }

    fn message(&mut self, index: &proptest::sample::Index) -> Published {
        let broker = &self.device().broker;
        broker.keys().nth(index.index(broker.len())).unwrap().clone()
    }

    fn operator(&mut self, step: &Step) {
        match step {
            Step::Deploy(wanted) => drop(self.repository.deploy_document("d", &document(wanted))),
            Step::Undeploy => self.repository.withdraw_deployments(),
            Step::Withdraw(module) => self.repository.withdraw_module(&path(*module)),
            Step::Release(module) => self.repository.module(&path(*module), &wasm(*module)),
            _ => drop(self.repository.rotate_root()),
        }
        self.publish();
    }

    /// Hands in an answer that nobody asked for: it is refused, and nothing changes.
    fn stray(&mut self, which: u8) {
        let digest = Digest::of(&[which]);
        let generation = 1_000_000 + u64::from(which);
        let module = name(which % MODULES);
        let stray = match which % 9 {
            0 => Event::Surveyed { number: generation, held: vec![digest], taken: 0, free: 1 << 40 },
            1 => Event::Begun { digest, missing: Ok(vec![0]) },
            2 => Event::Wrote { blob: digest, index: 0, chunk: digest, result: Ok(()) },
            3 => Event::Finished { digest, result: Ok(()) },
            4 => Event::Document { digest, content: Ok(vec![1]) },
            5 => Event::Staged { generation, handover: Handover::MakeBeforeBreak },
            6 => Event::Damaged { generation },
            7 => Event::Running { generation, module },
            _ => Event::Counted { generation, frames: vec![(module, 1 << 40)] },
        };
        let device = self.device();
        let before = format!("{:?}", device.sync);
        assert!(device.sync.handle(stray.clone(), device.now).is_err(), "{stray:?} was taken");
        assert_eq!(format!("{:?}", device.sync), before, "{stray:?} changed something");
    }

    fn fault(&mut self, which: u8) {
        let device = self.device();
        let started: Vec<_> = device.generations.iter().map(|(number, one)| (*number, one.plan.clone())).collect();
        let Some((generation, plan)) = started.get(usize::from(which) % started.len().max(1)) else { return };
        if let Some(module) = plan.deployment.modules.first() {
            device.fault(*generation, module.name.clone());
            device.run();
        }
    }

    /// Everything is as it should be from now on.
    fn faults_stop(&mut self) {
        let device = self.device();
        device.behaviours.clear();
        device.disk.broken = false;
        (device.free, device.losses, device.frames_come) = (1 << 30, 0, true);
        device.set_clock(0);
        if device.link {
            device.down();
        }
        device.capacity = Capacity::default();
        self.repository.expires = self.repository.expires.max(self.device().now.unix + 10_000_000);
        self.publish();
        self.device().up();
        self.settle();
    }

    fn settle(&mut self) {
        let device = self.device();
        device.ticks = 0;
        device.pass(CONVERGES_WITHIN);
        assert!(device.ticks <= MOST_TICKS, "{} ticks", device.ticks);
    }

    /// The device has come to what is wanted.
    fn check_end(&mut self, reference: &Reference) {
        let device = self.device();
        let said = format!("{:?} {:?} {:?}", device.refusals(), device.report().deployment, device.disk.slots.rejected);
        let Some(wanted) = &reference.wanted else {
            assert_eq!((device.runs(), device.committed(), device.generations.len()), (None, None, 0), "{said}");
            return;
        };
        let digest = Digest::of(document(wanted).to_string().as_bytes());
        let state = device.report().deployment.map(|deployment| deployment.state);
        let released = |module: &String| reference.released.iter().any(|one| name(*one) == *module);
        assert!(device.modules().iter().all(released), "what is not released runs: {said}");
        if !reference.can_run() {
            assert_eq!(state, Some(DeploymentState::Refused), "{said}");
        } else if matches!(state, Some(DeploymentState::RolledBack | DeploymentState::Refused)) {
            // It failed while it behaved badly, and is not tried again before it is changed.
            assert!(!device.disk.slots.rejected.is_empty(), "{said}");
            assert!(device.committed().is_none() || device.runs().is_some(), "{said}");
        } else {
            assert_eq!(state, Some(DeploymentState::Active), "{said}");
            let committed = device.disk.slots.committed.as_ref().map(|slot| slot.digest);
            assert_eq!((committed, device.generations.len()), (Some(digest), 1), "{said}");
            let modules: BTreeSet<String> = device.modules().into_iter().collect();
            assert_eq!(modules, wanted.modules.iter().map(|module| name(*module)).collect(), "{said}");
        }
    }
}

impl StateMachineTest for Machine {
    type SystemUnderTest = Self;
    type Reference = Reference;

    fn init_test(_: &Reference) -> Self {
        let mut repository = Repository::new();
        (0..MODULES).for_each(|module| repository.module(&path(module), &wasm(module)));
        repository.publish();
        Self { device: Some(Device::new(&repository)), repository }
    }

    fn apply(mut machine: Self, _: &Reference, step: Step) -> Self {
        match &step {
            Step::Deploy(_) | Step::Undeploy | Step::Withdraw(_) | Step::Release(_) | Step::RotateRoot => {
                machine.operator(&step);
            }
            Step::Resign => machine.publish(),
            Step::Honest => {
                let Machine { device, repository } = &mut machine;
                device.as_mut().unwrap().publish(repository);
            }
            Step::LinkUp(messages) => {
                machine.device().capacity = Capacity { messages: *messages, ..Capacity::default() };
                machine.device().up();
            }
            Step::LinkDown => machine.device().down(),
            Step::PowerCut(after) => machine.cut(*after),
            Step::Pass(ms) => machine.device().pass(u64::from(*ms)),
            Step::Clock(off) => machine.device().set_clock(*off),
            Step::Spoil(which) => {
                let what = machine.message(which);
                let mut payload = machine.device().broker[&what].clone();
                let at = which.index(payload.len());
                payload[at] ^= 1;
                machine.device().retain(what, payload);
            }
            Step::Forget(which) => {
                let what = machine.message(which);
                machine.device().broker.remove(&what);
                if machine.device().broker.is_empty() {
                    machine.publish();
                }
            }
            Step::Swap(one, other) => {
                let (one, other) = (machine.message(one), machine.message(other));
                let payload = machine.device().broker[&other].clone();
                machine.device().retain(one, payload);
            }
            Step::Lose(messages) => machine.device().losses = u32::from(*messages),
            Step::Behave(module, behaviour) => {
                let digest = Digest::of(&wasm(*module));
                let behaviours = &mut machine.device().behaviours;
                match behaviour {
                    Some(behaviour) => drop(behaviours.insert(digest, *behaviour)),
                    None => drop(behaviours.remove(&digest)),
                }
            }
            Step::Fault(which) => machine.fault(*which),
            Step::Frames(come) => machine.device().frames_come = *come,
            Step::Disk(broken) => machine.device().disk.broken = *broken,
            Step::Free(free) => machine.device().free = *free,
            Step::Damage(which) => machine.device().damage(usize::from(*which)),
            Step::LoseParts => machine.device().disk.lose_parts(),
            Step::Room(room) => {
                let none = Handover::BreakBeforeMake { why: "no room".into() };
                machine.device().handover = if *room { Handover::MakeBeforeBreak } else { none };
            }
            Step::Stray(which) => machine.stray(*which),
            Step::Look => machine.device().handle(Event::Refresh),
        }
        machine.device().run();
        machine
    }

    fn check_invariants(machine: &Self, reference: &Reference) {
        // Those that hold after every step of the device are in `world::check`.
        let device = machine.device.as_ref().unwrap();
        assert_eq!(device.link, reference.up);
        assert!(device.now.unix >= START, "the time that expiry is judged by fell below the build's");
        assert!(device.report().refused.len() <= 16);
        assert!(device.disk.slots.rejected.len() <= 16);
    }

    fn teardown(mut machine: Self, mut reference: Reference) {
        machine.faults_stop();
        machine.check_end(&reference);
        // A deployment that was never tried runs, whatever happened before.
        (0..MODULES).for_each(|module| machine.repository.module(&path(module), &wasm(module)));
        let fresh = Wanted { modules: [1, 2].into(), config: 9 };
        machine.repository.deploy_document("d", &document(&fresh));
        machine.publish();
        machine.settle();
        reference = Reference { wanted: Some(fresh), released: (0..MODULES).collect(), up: true };
        machine.check_end(&reference);
        assert_eq!(machine.device().committed(), Some("d"));
        // And one that is taken back stops.
        machine.repository.withdraw_deployments();
        machine.publish();
        machine.settle();
        machine.check_end(&Reference { wanted: None, ..reference });
    }
}
