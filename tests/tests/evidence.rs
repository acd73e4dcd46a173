//! Images that guests have encoded arrive at the operator as JPEG that others decode; and what guests count is reported.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_protocol::worker::Metric;
use sanderling_tests::{Module, PATIENCE, Site, defects, deployment, guest, source};
use serde_json::json;
use zune_core::bytestream::ZCursor;
use zune_jpeg::JpegDecoder;

/// A held-out image with a defect.
const IMAGE: &str = "modules/surface-defect/images/held-out/022-brick.png";

fn with_camera(site: &Site) -> sanderling_tests::Device {
    let device = site.device("gw-1");
    let image = source().join(IMAGE);
    device.lay("cam0", &format!("[sensor.cam0]\nkind = 'replay'\nfiles = [{image:?}]\nrate = 20\nloop = true\n"));
    device
}

/// Width, height and pixels.
fn decode(jpeg: &[u8]) -> (usize, usize, Vec<u8>) {
    let mut decoder = JpegDecoder::new(ZCursor::new(jpeg));
    let pixels = decoder.decode().unwrap_or_else(|error| panic!("{error}: {:02x?}", &jpeg[..jpeg.len().min(16)]));
    let (width, height) = decoder.dimensions().unwrap();
    (width, height, pixels)
}

#[test]
fn a_region_of_the_camera_arrives_as_a_jpeg_and_an_image_that_does_not_change_once() {
    let site = Site::new();
    let device = with_camera(&site);
    let _agent = device.start();
    site.fleet.add_module(&std::fs::read(guest("transcode")).unwrap(), "modules/transcode/1.wasm");
    let module = |name: &str, changed: u32| {
        Module::new(name, "modules/transcode/1.wasm")
            .decoded("cam0", "rgb8")
            .config(json!({ "region": [8, 4, 40, 24], "quality": 90, "changed": changed }))
            .emits("images")
            .keeps(512)
            .shows()
    };
    let document = deployment("line", [module("all", 0), module("changed", 10)]);
    let digest = site.fleet.roll_out(&document, &site.broker);
    site.observer.wait_active(&device.id, digest);
    let (width, height, pixels) = site.observer.wait_for("images", PATIENCE, |seen| {
        let images: Vec<_> = seen.of(&device.id, "data/all/images").collect();
        (images.len() > 10).then(|| decode(&images[10].payload))
    });
    assert_eq!((width, height, pixels.len()), (40, 24, 40 * 24 * 3));
    assert!(pixels.iter().max() > pixels.iter().min(), "there is something to see");
    // The operator's request answers with what is reported now. Images set its pace: a device answers a few requests a second.
    let metric = |name: &str, metric: &str| {
        let mark = site.observer.mark();
        site.observer.wait_for("more images", PATIENCE, |seen| {
            (seen.after(mark).of(&device.id, "data/all/images").count() >= 10).then_some(())
        });
        let answer = site.observer.request(&device.id, "report", b"");
        let report: sanderling_protocol::reported::Reported = serde_json::from_value(answer.body.unwrap()).unwrap();
        let module = report.modules.into_iter().find(|module| module.name == name).unwrap();
        module.metrics.get(metric).copied()
    };
    let counted = sanderling_tests::until(PATIENCE, || metric("all", "frames").filter(|seen| seen.value() > 10.0));
    assert!(matches!(counted, Some(Metric::Counter(_))), "{counted:?}");
    let sent = sanderling_tests::until(PATIENCE, || metric("changed", "sent"));
    assert_eq!(sent, Some(Metric::Counter(1.0)));
    site.observer.wait_for("the one image", PATIENCE, |seen| {
        (seen.of(&device.id, "data/changed/images").count() == 1).then_some(())
    });
}

#[test]
fn a_defect_is_shown_where_the_deployment_asks_for_it() {
    let site = Site::new();
    let device = with_camera(&site);
    let _agent = device.start();
    let folder = source().join("modules/surface-defect/model");
    site.fleet.add_module(&std::fs::read(guest("surface-defect")).unwrap(), "modules/surface-defect/1.wasm");
    site.fleet.add_model(&std::fs::read(folder.join("surface-defect.onnx")).unwrap(), "models/surface-defect/1.onnx");
    let module = defects("cam0", "modules/surface-defect/1.wasm", "models/surface-defect/1.onnx")
        .config(json!({ "threshold": 0.9, "cell_threshold": 0.45, "evidence": 80 }))
        .emits("evidence")
        .shows();
    let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let (shown, record) = site.observer.wait_for("evidence", PATIENCE, |seen| {
        let shown = decode(&seen.of(&device.id, "data/scratch/evidence").next()?.payload);
        Some((shown, seen.records(&device.id, "scratch", "defects").first()?.clone()))
    });
    let size = (shown.0 as u64, shown.1 as u64);
    assert_eq!(Some(size), record["box"][2].as_u64().zip(record["box"][3].as_u64()), "{record}");
}
