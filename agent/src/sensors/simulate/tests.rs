use super::*;
use crate::sensors::fake::{Bench, until};

fn signal() -> SignalSettings {
    SignalSettings {
        rate_hz: 1000.0,
        window: 250,
        channels: vec![
            ChannelSettings { hz: 50.0, amplitude: 2.0, offset: 1.0, ..ChannelSettings::default() },
            ChannelSettings { wave: Wave::Square, hz: 2.0, noise: 0.1, ..ChannelSettings::default() },
            ChannelSettings { wave: Wave::Flat, drift: 0.5, noise: 1.0, ..ChannelSettings::default() },
        ],
        anomalies_per_min: 0.0,
        anomaly_s: 0.5,
    }
}

fn scene() -> SceneSettings {
    SceneSettings { width: 128, height: 96, color: false, rate: 100.0, defects: 0.0, objects: 0 }
}

fn window(settings: &SignalSettings, seed: u64, frame: u64) -> Vec<f32> {
    let mut room = vec![0; settings.length()];
    Signal::new(seed, settings.clone()).write(frame, &mut room);
    room.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
}

fn image(settings: SceneSettings, seed: u64, frame: u64) -> Vec<u8> {
    let mut room = vec![0; settings.image().length()];
    Scene::new(seed, settings).write(frame, &mut room);
    room
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whoever changes what a seed gives changes these, and says so in the changelog.
#[test]
fn a_seed_gives_the_same_bytes_on_every_machine() {
    let odd = SignalSettings { anomalies_per_min: 30.0, ..signal() };
    let mut room = vec![0; odd.length()];
    Signal::new(7, odd).write(3, &mut room);
    let busy = SceneSettings { defects: 1.0, objects: 2, ..scene() };
    let color = SceneSettings { color: true, ..busy };
    let digests = [digest(&room), digest(&image(busy, 7, 3)), digest(&image(color, 7, 3))];
    assert_eq!(digests, ["4feecefdfcbe2cd3", "afe0fb46477eb94e", "63c7c5a3b02702ce"]);
}

#[test]
fn waves_are_what_the_settings_say() {
    let settings = signal();
    let values = window(&settings, 7, 0);
    let channel = |channel: usize| values.iter().skip(channel).step_by(3).copied().collect::<Vec<_>>();
    let sine = channel(0);
    let largest = sine.iter().copied().fold(f32::MIN, f32::max);
    let smallest = sine.iter().copied().fold(f32::MAX, f32::min);
    assert!((largest - 3.0).abs() < 0.01 && (smallest + 1.0).abs() < 0.01, "{largest} {smallest}");
    // 50 Hz: a period is 20 samples.
    assert!(sine.iter().zip(&sine[20..]).all(|(a, b)| (a - b).abs() < 1e-5));
    let square = channel(1);
    assert!(square.iter().all(|value| (value - 1.0).abs() < 0.4));
    assert!(window(&settings, 7, 1).iter().skip(1).step_by(3).all(|value| (value + 1.0).abs() < 0.4));
    let later: f32 = window(&settings, 7, 400).iter().skip(2).step_by(3).sum::<f32>() / 250.0;
    assert!((later - 50.0).abs() < 1.0, "it drifted by 0.5 a second for 100 s: {later}");
}

#[test]
fn frames_differ_from_each_other_and_from_those_of_another_seed() {
    let settings = signal();
    assert_eq!(window(&settings, 7, 5), window(&settings, 7, 5));
    assert_ne!(window(&settings, 7, 5), window(&settings, 7, 6));
    assert_ne!(window(&settings, 7, 5), window(&settings, 8, 5));
    assert_ne!(image(scene(), 7, 5), image(scene(), 7, 6));
    assert_ne!(image(scene(), 7, 5), image(scene(), 8, 5));
}

#[test]
fn anomalies_come_as_often_as_they_should() {
    let flat = ChannelSettings { wave: Wave::Square, hz: 0.0, ..ChannelSettings::default() };
    let settings = SignalSettings { anomalies_per_min: 12.0, anomaly_s: 0.25, channels: vec![flat], ..signal() };
    // A frame is one slot here, and 12 a minute of a quarter of a second are a twentieth of the time.
    let odd = (0..4000).filter(|frame| window(&settings, 7, *frame).first() == Some(&4.0)).count();
    assert!((150..250).contains(&odd), "{odd} of 4000");
}

#[test]
fn scratches_are_where_they_should_and_stand_out() {
    let settings = SceneSettings { defects: 0.25, ..scene() };
    let scratched = Scene::new(7, settings);
    let with: Vec<u64> = (0..400).filter(|frame| scratched.has_defect(*frame)).collect();
    assert!((70..130).contains(&with.len()), "{}", with.len());
    for frame in 0..40 {
        let changed = image(settings, 7, frame).iter().zip(image(scene(), 7, frame)).filter(|(a, b)| **a != *b).count();
        assert_eq!(changed > 100, with.contains(&frame), "{frame}: {changed} pixels differ");
    }
}

#[test]
fn discs_move() {
    let settings = SceneSettings { objects: 1, ..scene() };
    let bright = |frame| {
        let drawn = image(settings, 7, frame);
        drawn.iter().zip(image(scene(), 7, frame)).position(|(a, b)| *a != b).unwrap()
    };
    assert_ne!(bright(0), bright(10));
}

#[tokio::test]
async fn gives_windows_with_a_header_that_says_what_they_are() {
    let settings = SignalSettings { rate_hz: 100_000.0, window: 100, ..signal() };
    let first = window(&settings, 7, 0);
    let simulate = Simulate::new(SimulateSettings { seed: 7, of: Simulated::Signal(settings) });
    assert_eq!(simulate.largest_frame(), 1200);
    let bench = Bench::default();
    bench.run(Box::new(simulate), async |bench| until(|| bench.count() >= 3).await).await;
    let (header, content) = &bench.frames()[0];
    assert_eq!((header.kind, header.format, header.width, header.channels), (Kind::Series, Format::F32, 100, 3));
    assert_eq!((header.rate_mhz, header.stride, header.len), (100_000_000, 1200, 1200));
    assert_eq!(content[..4], first[0].to_le_bytes());
}

#[tokio::test(start_paused = true)]
async fn keeps_its_rate_uses_the_same_memory_and_makes_nothing_that_nobody_wants() {
    let scene = SceneSettings { rate: 4.0, ..scene() };
    let simulate = Simulate::new(SimulateSettings { seed: 7, of: Simulated::Scene(scene) });
    let bench = Bench::default();
    bench.want(false);
    bench
        .run(Box::new(simulate), async |bench| {
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!((bench.count(), bench.pool().made()), (0, 0));
            bench.want(true);
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!((38..=42).contains(&bench.count()), "{}", bench.count());
            assert_eq!(bench.pool().made(), 1);
        })
        .await;
    let (header, _) = &bench.frames()[0];
    assert_eq!((header.kind, header.format, header.width, header.height), (Kind::Image, Format::Gray8, 128, 96));
}
