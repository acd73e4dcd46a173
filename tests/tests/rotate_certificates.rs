//! Certificates are renewed under load, again and again: each is used, and no record is lost.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use sanderling_tests::{PATIENCE, Site, renewed_client, until};

const ROTATIONS: usize = 100;
/// Each of these many is left half done until the agent has said what it thinks of that.
const HALF: usize = 20;

/// As a file is replaced by those who do it well.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn a_hundred_rotations_under_load_are_used_and_lose_no_record() {
    let mut site = Site::new();
    site.broker.tell_subjects();
    let device = site.device("gw-1");
    device.lay("reload", "[broker]\nreload_s = 0.05\n");
    device.lay_clock("clock", 100.0);
    let agent = device.start();
    let digest = site.roll_out_ticks(b'a');
    site.observer.wait_active(&device.id, digest);
    let first = site.observer.wait_ticks(&device.id, "ticks", b'a', 20)[0].seq;
    let connected = |site: &Site, unit: &str| {
        let by = format!("OU={unit}");
        let new =
            |line: &String| line.contains("New client connected") && line.contains(&by) && line.contains(" as gw-1 ");
        site.broker.lines().iter().filter(|line| new(line)).count()
    };
    let mark = site.observer.mark();
    let files = device.credentials();
    for rotation in 1..=ROTATIONS {
        let unit = format!("rotation-{rotation}.");
        let (cert, key) = renewed_client(&site.fleet, "gw-1", &unit);
        let (one, other) = ((&files.cert, cert), (&files.key, key));
        let (one, other) = if rotation % 2 == 0 { (one, other) } else { (other, one) };
        replace(one.0, &one.1);
        if rotation % HALF == 0 {
            agent.wait_for_lines(PATIENCE, &["a new certificate is not used", "does not go with"], rotation / HALF);
            let so_far =
                site.observer.wait_for("records", PATIENCE, |seen| Some(seen.ticks(&device.id, "ticks").len()));
            site.observer.wait_for("more records by the old certificate", PATIENCE, |seen| {
                (seen.ticks(&device.id, "ticks").len() > so_far).then_some(())
            });
        }
        replace(other.0, &other.1);
        let used = until(PATIENCE, || (connected(&site, &unit) > 0).then_some(()));
        assert!(used.is_some(), "{unit} is not used");
    }
    let last =
        site.observer.wait_for("records", Duration::ZERO, |seen| seen.ticks(&device.id, "ticks").last().copied());
    let ticks = site.observer.wait_for("later records", PATIENCE, |seen| {
        let ticks = seen.ticks(&device.id, "ticks");
        ticks.iter().any(|tick| tick.seq > last.seq + 50).then_some(ticks)
    });
    let seqs: BTreeSet<u64> = ticks.iter().map(|tick| tick.seq).collect();
    let missing: Vec<u64> = (first..=last.seq).filter(|seq| !seqs.contains(seq)).collect();
    assert!(missing.is_empty(), "of {first} to {} these are missing: {missing:?}", last.seq);
    println!("{} records over {ROTATIONS} rotations, {} came again", seqs.len(), ticks.len() - seqs.len());
    for rotation in 1..=ROTATIONS {
        assert_eq!(connected(&site, &format!("rotation-{rotation}.")), 1, "each once: {rotation}");
    }
    let wills = site.observer.wait_for("statuses", Duration::ZERO, |seen| {
        Some(seen.after(mark).of(&device.id, "status").filter(|message| !message.payload.is_empty()).count())
    });
    assert_eq!(wills, ROTATIONS, "a birth for each connection, and no last will");
    let report = site.observer.wait_report(&device.id, "the last certificate's end", |report| {
        report.certificate_expires == Some(2_114_380_800)
    });
    assert_eq!((report.modules[0].dropped, report.modules[0].restarts, report.outbox.dropped), (0, 0, 0));
    assert!(report.refused.iter().any(|refused| refused.what == "certificate"), "{:?}", report.refused);
}
