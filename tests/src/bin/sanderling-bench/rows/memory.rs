//! Memory and size of what is shipped: the real agent on a real broker, beside `mosquitto_sub` on the same one.

use std::{fs, thread::sleep, time::Duration};

use anyhow::{Context, Result};
use sanderling_tests::{PATIENCE, Process, Site, defects, deployment, guest, program, source, until};

use crate::report::{Budget, Row};

/// How long a process is left alone before it is measured.
const SETTLE: Duration = Duration::from_secs(3);
const MEGA: f64 = 1e6;
const MIB: f64 = 1024.0;

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut rows = vec![size("agent-size", "sanderling-agent", 4.0)?, size("worker-size", "sanderling-worker", 14.0)?];
    let site = Site::new();
    let device = site.device("bench-1");
    super::pull::quiet(&device);
    device.lay_clock("clock", 20.0);
    let images = source().join("modules/surface-defect/images/held-out");
    device.lay("cam0", &format!("[sensor.cam0]\nkind = 'replay'\npath = {images:?}\nrate = 20\nloop = true\n"));
    let agent = device.start();
    site.observer.wait_report(&device.id, "a first report", |_| true);
    let listener = subscriber(&site);
    sleep(SETTLE);
    let idle = pss(agent.pid())?;
    let row = Row::new("agent-pss", "sanderling-agent, connected over TLS, without a module", "MiB", idle);
    rows.push(row.beside("mosquitto_sub", pss(listener.pid())?).within(Budget::AtMost(3.8)));

    let digest = site.roll_out_ticks(b'a');
    site.observer.wait_active(&device.id, digest);
    sleep(SETTLE);
    let row = Row::new("worker-pss", "sanderling-worker with a small guest, without a model", "MiB", worker(&agent)?);
    rows.push(row.within(Budget::AtMost(3.0)));

    site.fleet.add_module(&fs::read(guest("surface-defect"))?, "modules/surface-defect/1.wasm");
    let model = source().join("modules/surface-defect/model/surface-defect.onnx");
    site.fleet.add_model(&fs::read(model)?, "models/surface-defect/1.onnx");
    let module = defects("cam0", "modules/surface-defect/1.wasm", "models/surface-defect/1.onnx");
    let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    sleep(SETTLE);
    let (worker, agent) = (worker(&agent)?, pss(agent.pid())?);
    let row =
        Row::new("worker-model-pss", "sanderling-worker that scores PNG images with surface-defect", "MiB", worker);
    rows.push(row.within(Budget::AtMost(8.0)));
    let what = format!("agent ({agent:.1} MiB) and worker with one defect module");
    rows.push(Row::new("whole-pss", what, "MiB", agent + worker).within(Budget::AtMost(12.0)));
    Ok(rows)
}

fn size(name: &'static str, file: &str, most: f64) -> Result<Row> {
    let bytes = fs::metadata(program(file))?.len() as f64;
    Ok(Row::new(name, format!("{file}, stripped"), "MB", bytes / MEGA).within(Budget::AtMost(most)))
}

/// `mosquitto_sub` as the operator, on topics where nothing comes.
fn subscriber(site: &Site) -> Process {
    let topic = format!("{}/nothing", site.fleet.topics().prefix());
    Process::start("mosquitto_sub", super::pull::mosquitto_sub(site).args(["-t", &topic]))
}

/// The one worker of an agent, in MiB; while one deployment follows another there are two.
fn worker(agent: &Process) -> Result<f64> {
    let only = until(PATIENCE, || match agent.children().as_slice() {
        [pid] => Some(*pid),
        _ => None,
    });
    pss(only.context("the agent has not one worker")?)
}

/// Proportional set size, in MiB.
pub(super) fn pss(pid: u32) -> Result<f64> {
    Ok(field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")? / MIB)
}

/// A field of a file of `/proc` that is given in kB.
pub(super) fn field(file: &str, name: &str) -> Result<f64> {
    let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{file} has no {name}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
