//! Which device runs what: audiences by id and label, priorities, and what is meant for others.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_tests::{Site, deployment, guests::ticks, line_module};

#[test]
fn each_device_runs_what_is_meant_for_it_and_pulls_nothing_else() {
    let site = Site::new();
    let (one, two) = (site.device("gw-a"), site.device("gw-b"));
    one.lay("labels", "[labels]\nsite = 'north'\n");
    let agents = [&one, &two].map(|device| {
        device.lay_clock("clock", 20.0);
        device.start()
    });
    let stage = |name: &str, tag: u8, options: &[&str]| {
        let path = format!("modules/ticks/{name}.wasm");
        site.fleet.add_module(&ticks(tag), &path);
        site.fleet.deploy_to(&deployment(name, [line_module(&path)]), options)
    };
    let all = stage("all", b'a', &[]);
    let special = stage("special", b's', &["--device", "gw-b*", "--priority", "1"]);
    let nobody = stage("nobody", b'x', &["--percent", "0", "--priority", "9"]);
    site.fleet.sign();
    site.fleet.publish(&site.broker);
    site.observer.wait_active(&one.id, all);
    site.observer.wait_active(&two.id, special);
    site.observer.wait_ticks(&one.id, "ticks", b'a', 3);
    site.observer.wait_ticks(&two.id, "ticks", b's', 3);
    for (device, others) in [("gw-a", [special, nobody]), ("gw-b", [all, nobody])] {
        for digest in others {
            assert!(
                site.broker.sent(device, &digest.to_string()).is_empty(),
                "{device} pulled what is not meant for it"
            );
        }
    }

    // A label is narrower than everybody; the higher priority keeps the other device where it is.
    let north = stage("north", b'n', &["--label", "site=north"]);
    site.fleet.sign();
    site.fleet.publish(&site.broker);
    site.observer.wait_active(&one.id, north);
    site.observer.wait_ticks(&one.id, "ticks", b'n', 3);
    let report = site.observer.wait_report(&two.id, "the same metadata", |report| report.metadata.timestamp == 3);
    assert_eq!(report.deployment.unwrap().digest, special);
    drop(agents);
}
