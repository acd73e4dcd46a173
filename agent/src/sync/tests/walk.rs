//! Random walks: whatever happens, and in whatever order, the invariants that the device checks after every step hold.

use sanderling_protocol::{digest::Digest, topics::Published};
use serde_json::json;

use super::{
    repository::{Repository, content, document},
    world::{Behaviour, Device},
};
use crate::sync::Chance;

const MODULES: u64 = 4;

fn wasm(module: u64) -> Vec<u8> {
    content(u8::try_from(module).unwrap(), 40_000 + 10_000 * usize::try_from(module).unwrap())
}

fn path(module: u64) -> String {
    format!("modules/m/{module}.wasm")
}

/// What the operator, the broker, the power and the modules may do.
fn happen(device: Device, repository: &mut Repository, chance: &mut Chance) -> Device {
    let mut device = device;
    match chance.below(12) {
        0 | 1 => {
            let module = chance.below(MODULES);
            let config = json!(chance.below(3));
            repository.deploy_document("d", &document("d", &path(module), config));
            repository.publish();
            device.publish(repository);
        }
        2 => {
            repository.withdraw_deployments();
            repository.publish();
            device.publish(repository);
        }
        3 => {
            repository.rotate_root();
            device.publish(repository);
        }
        4 if device.link => device.down(),
        4 | 5 if !device.link => device.up(),
        6 => device = device.reboot(repository),
        7 => {
            // The broker forgets or spoils something.
            let victims: Vec<Published> = device.broker.keys().cloned().collect();
            let victim = &victims[usize::try_from(chance.below(victims.len() as u64)).unwrap()];
            let mut bytes = device.broker[victim].clone();
            let at = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1;
            device.retain(victim.clone(), bytes);
        }
        8 => {
            // An honest broker again.
            device.publish(repository);
        }
        9 => {
            let behaviours = [Behaviour::FailsDryStart, Behaviour::FailsStart, Behaviour::FaultsOnFrames];
            let behaviour = behaviours.get(usize::try_from(chance.below(5)).unwrap());
            let digest = Digest::of(&wasm(1 + chance.below(MODULES - 1)));
            match behaviour {
                Some(behaviour) => drop(device.behaviours.insert(digest, *behaviour)),
                None => drop(device.behaviours.remove(&digest)),
            }
        }
        10 => {
            for _ in 0..chance.below(40) {
                device.step();
            }
        }
        _ => device.pass(chance.below(40_000)),
    }
    device
}

#[test]
fn no_order_of_events_breaks_the_invariants_and_honesty_wins() {
    for seed in 0..60 {
        let mut chance = Chance::new(seed);
        let mut repository = Repository::new();
        (0..MODULES).for_each(|module| repository.module(&path(module), &wasm(module)));
        repository.publish();
        let mut device = Device::new(&repository);
        for _ in 0..60 {
            device = happen(device, &mut repository, &mut chance);
        }
        // The operator deploys something that works, the broker is honest and there, and time passes.
        device.behaviours.clear();
        repository.deploy_document("d", &document("d", &path(0), json!({ "last": seed })));
        repository.publish();
        if device.link {
            device.down();
        }
        device.publish(&repository);
        device.up();
        device.pass(900_000);
        assert_eq!((device.runs(), device.committed()), (Some("d"), Some("d")), "seed {seed}: {:?}", device.refusals());
        let document = &device.disk.slots.committed.as_ref().unwrap().document;
        assert!(document.contains(&format!("\"last\":{seed}")), "seed {seed}");
    }
}
