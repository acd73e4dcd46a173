//! What happens to the gateway, in order.

use std::time::Duration;

use sanderling_tests::Watch;
use serde_json::Value;

use crate::{
    cuts,
    figures::Figures,
    gateway::{GATE, Gateway, LAMP, PATIENCE, Version},
    guest::Guest,
    settings::Settings,
};

/// What an operator does with the package, the device's folder and two kinds of devices: docs/installing.md.
const INSTALL: &str = "
set -e
mount -o ro /dev/vdb /mnt
dpkg -i /mnt/sanderling-agent.deb
! systemctl is-active sanderling-agent
cp -r /mnt/gw-vm/. /etc/sanderling/
systemd-tmpfiles --create sanderling-provisioned.conf
sanderling-agent check
mkdir -p /etc/systemd/system/sanderling-agent.service.d
cp /usr/share/doc/sanderling-agent/devices/gpio.conf /usr/share/doc/sanderling-agent/devices/v4l2.conf \
    /etc/systemd/system/sanderling-agent.service.d/
umount /mnt
sync
systemctl daemon-reload
";

/// Kilobytes that a process has for itself, with its share of what it shares.
const PSS: &str = "awk '/^Pss:/ { print $2 }' /proc/PID/smaps_rollup";

/// Edges that are given to the sensor.
const EDGES: usize = 20;
/// Pulses that are waited for.
const PULSES: usize = 5;

/// Tells all of it.
pub(crate) fn tell(settings: &Settings) -> Figures {
    let mut figures = Figures::default();
    let mut gateway = Gateway::new(&settings.image, &settings.deb);
    install(&mut gateway, &mut figures);
    let version = first_deployment(&gateway, &mut figures);
    lines(&gateway, &mut figures);
    let (version, span) = update(&gateway, version, &mut figures);
    look(&gateway, &mut figures);
    killed(&gateway, &mut figures);
    offline(&mut gateway, version, &mut figures);
    figures.cuts(cuts::cut(&mut gateway, version, settings.cuts, settings.seed, span));
    leave(&mut gateway);
    figures
}

fn step(what: &str) {
    eprintln!("vm: {what}");
}

/// Boots, installs the package and the device's folder, and starts the service.
fn install(gateway: &mut Gateway, figures: &mut Figures) {
    step("booting");
    let watch = Watch::start();
    gateway.machine.start();
    let mut guest = gateway.machine.guest(PATIENCE);
    figures.time("boot until the guest agent answers", watch.elapsed());
    figures.add("kernel", guest.run("uname -sr").trim(), "");
    figures.add("service manager", guest.run("systemctl --version | head -n 1").trim(), "");

    step("installing the package");
    let watch = Watch::start();
    guest.run(INSTALL);
    figures.time("installing the package and the device's folder", watch.elapsed());
    assert_eq!(guest.run("systemctl is-enabled sanderling-agent").trim(), "enabled");
    let watch = Watch::start();
    guest.run("systemctl start sanderling-agent");
    figures.time("start of the service until it says that it is ready", watch.elapsed());
    gateway.wait_online(None);
}

/// Deploys over MQTT, and waits for what the camera's images give.
fn first_deployment(gateway: &Gateway, figures: &mut Figures) -> Version {
    step("deploying");
    let mark = gateway.site.observer.mark();
    let watch = Watch::start();
    let version = gateway.roll_out(1);
    gateway.wait_records("scratch", "defects", mark, 1);
    figures.time("publication until the first detection, of the first deployment", watch.elapsed());
    gateway.wait_active(version);
    let records = gateway.wait_records("scratch", "defects", mark, 20);
    let seqs: Vec<u64> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "each image once, in order: {seqs:?}");
    version
}

/// Edges from the chip's lines reach a module, and a module's records set a line.
fn lines(gateway: &Gateway, figures: &mut Figures) {
    step("moving lines of the gpiochip");
    gateway.site.observer.wait_for("all sensors and sinks at work", PATIENCE, |seen| {
        let report = seen.reported(&gateway.device)?;
        let errors = report
            .sensors
            .iter()
            .filter_map(|it| it.error.clone())
            .chain(report.sinks.iter().filter_map(|it| it.error.clone()));
        errors.last().is_none().then_some(())
    });
    let mark = gateway.site.observer.mark();
    let mut board = gateway.machine.board();
    let mut edges: Vec<Value> = Vec::new();
    for edge in 0..EDGES {
        board.set(GATE, edge % 2 == 0);
        // One after the other: the chip has no memory of an edge that another one follows before the interrupt is taken.
        edges = gateway.wait_records("edges", "edges", mark, edge + 1);
    }
    let expected: Vec<&str> = ["rising", "falling"].into_iter().cycle().take(EDGES).collect();
    let seen: Vec<&str> = edges.iter().filter_map(|edge| edge["edge"].as_str()).collect();
    assert_eq!(seen, expected, "{edges:?}");
    let mut levels = Vec::new();
    while levels.len() < 2 * PULSES {
        let level = board.next(PATIENCE).unwrap_or_else(|| panic!("the lamp's line does not move: {levels:?}"));
        levels.extend((level.line == LAMP).then_some(level.high));
    }
    assert!(levels.windows(2).all(|pair| pair[0] != pair[1]), "pulses: {levels:?}");
    let report = gateway.site.observer.wait_for("pulses in the report", PATIENCE, |seen| {
        let report = seen.reported(&gateway.device)?;
        let lamp = report.sinks.iter().find(|sink| sink.name == "lamp")?;
        lamp.pulses.filter(|pulses| pulses.given > 0)
    });
    figures.add("edges on a line of the chip, each a record", EDGES, "");
    figures.add("a record until its line is set, median", report.set_us_p50, "µs");
}

/// An update that nothing disturbs; gives the version and how long it took until it was committed.
fn update(gateway: &Gateway, old: Version, figures: &mut Figures) -> (Version, Duration) {
    step("updating");
    let new = gateway.roll_out(2);
    assert_ne!(old, new);
    let watch = Watch::start();
    gateway.wait_active(new);
    figures.time("publication until an update of 1.5 MB is committed", watch.elapsed());
    (new, watch.elapsed())
}

/// What the machine says of the service.
fn look(gateway: &Gateway, figures: &mut Figures) {
    step("looking at the service");
    let mut guest = gateway.machine.guest(PATIENCE);
    let agent = guest.run("systemctl show --property MainPID --value sanderling-agent").trim().to_owned();
    let report = gateway.site.observer.wait_report(&gateway.device, "its modules", |report| !report.modules.is_empty());
    let workers = report
        .modules
        .iter()
        .filter_map(|module| Some((format!("worker of {}", module.name), module.pid?.to_string())));
    for (whose, pid) in std::iter::once(("agent".to_owned(), agent)).chain(workers) {
        let said = guest.run(&PSS.replace("PID", &pid));
        let kilobytes: f64 = said.trim().parse().unwrap_or_else(|error| panic!("{whose}: {error}: {said}"));
        figures.add(&format!("PSS of the {whose}"), (kilobytes / 102.4).round() / 10.0, "MiB");
    }
    let exposure = guest.run("systemd-analyze security --no-pager sanderling-agent.service | tail -n 1");
    let exposure = exposure.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    let exposure = exposure.unwrap_or_else(|| panic!("no exposure level"));
    assert!(exposure <= 1.7, "exposure {exposure}");
    figures.add("systemd-analyze security, with cameras and lines opened", exposure, "");
    let (status, doctor) =
        guest.try_run("systemd-run --quiet --pipe --wait -p User=sanderling -p SupplementaryGroups=\"gpio video\" sanderling-agent doctor");
    // 3: it works without what is lacking, which is a clock that is kept and what landlock does not know in Linux 6.1.
    assert_eq!(status, 3, "{doctor}");
}

/// The agent is killed; systemd starts it again, and it goes on with what was committed.
fn killed(gateway: &Gateway, figures: &mut Figures) {
    step("killing the agent");
    let before = gateway.wait_online(None);
    let mut guest = gateway.machine.guest(PATIENCE);
    let mark = gateway.site.observer.mark();
    let watch = Watch::start();
    guest.run("systemctl kill --kill-whom=main -s KILL sanderling-agent");
    gateway.wait_online(Some(&before));
    gateway.wait_records("scratch", "defects", mark, 1);
    figures.time("SIGKILL of the agent until it is back with a record", watch.elapsed());
}

/// The power is cut, and comes back without a network: what was committed runs, and its records come once the cable is in.
fn offline(gateway: &mut Gateway, version: Version, figures: &mut Figures) {
    step("booting without a network");
    let before = gateway.wait_online(None);
    gateway.machine.cut();
    gateway.wait_offline();
    let mark = gateway.site.observer.mark();
    gateway.machine.start();
    gateway.machine.plug(false);
    let watch = Watch::start();
    let mut board = gateway.machine.board();
    let mut lamp = || std::iter::from_fn(|| board.next(PATIENCE)).find(|level| level.line == LAMP && level.high);
    assert!(lamp().is_some(), "the committed version does not run without a network");
    figures.time("power on without a network until a detection sets its line", watch.elapsed());
    for _ in 1..PULSES {
        assert!(lamp().is_some(), "the committed version does not go on without a network");
    }
    let mut guest: Guest = gateway.machine.guest(PATIENCE);
    assert_eq!(guest.run("systemctl is-active sanderling-agent").trim(), "active");
    gateway.machine.plug(true);
    let status = gateway.wait_online(Some(&before));
    let report =
        gateway.site.observer.wait_report(&gateway.device, "a report", |report| report.session == status.session);
    let frames = report.sensors.iter().find(|sensor| sensor.name == "camera").map_or(0, |sensor| sensor.frames);
    let records = gateway.wait_records("scratch", "defects", mark, 1);
    let first = records.iter().filter_map(|record| record["seq"].as_u64()).min().unwrap_or(u64::MAX);
    assert!(first + (PULSES as u64) <= frames, "of {frames} images without a network the first record is of {first}");
    gateway.wait_active(version);
}

/// The package is removed from the running machine, and the machine turned off in order.
fn leave(gateway: &mut Gateway) {
    step("removing the package");
    let mut guest = gateway.machine.guest(PATIENCE);
    guest.run("dpkg --remove sanderling-agent && test ! -e /sys/fs/cgroup/system.slice/sanderling-agent.service && test -e /var/lib/sanderling && test -e /etc/sanderling/device.key");
    gateway.wait_offline();
    guest.run("dpkg --purge sanderling-agent && test ! -e /var/lib/sanderling -a ! -e /etc/sanderling");
    guest.turn_off();
    gateway.machine.wait_off(PATIENCE);
}
