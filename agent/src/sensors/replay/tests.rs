use super::*;
use crate::sensors::{
    PixelFormat, RawImage, SeriesSettings,
    fake::{Bench, until},
};

fn settings(files: &[PathBuf]) -> ReplaySettings {
    ReplaySettings {
        files: files.to_vec(),
        rate: 1000.0,
        repeat: false,
        max_frame: 100_000,
        raw: None,
        csv: SeriesSettings::default(),
    }
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

async fn all(settings: ReplaySettings, count: usize) -> (Vec<(FrameHeader, Vec<u8>)>, Option<String>) {
    let bench = Bench::default();
    let error = std::cell::RefCell::new(None);
    bench
        .run(Box::new(Replay::new(settings)), async |bench| {
            until(|| bench.count() >= count).await;
            *error.borrow_mut() = bench.report().error;
        })
        .await;
    (bench.frames(), error.into_inner())
}

#[tokio::test]
async fn gives_the_images_of_a_folder_in_the_order_of_their_names() {
    let folder = folder(&[
        ("b.JPG", b"jpeg"),
        ("a.png", b"png"),
        ("labels.csv", b"file,label\n"),
        (".hidden.png", b"x"),
        ("c.jpeg", b"more"),
    ]);
    fs::create_dir(folder.path().join("z.png")).unwrap();
    let (frames, error) = all(settings(&[folder.path().into()]), 3).await;
    let seen: Vec<_> = frames.iter().map(|(h, c)| (h.seq, h.kind, h.format, c.as_slice())).collect();
    assert_eq!(
        seen,
        [
            (1, Kind::Image, Format::Png, b"png".as_slice()),
            (2, Kind::Image, Format::Jpeg, b"jpeg"),
            (3, Kind::Image, Format::Jpeg, b"more")
        ]
    );
    assert!(frames.iter().all(|(h, _)| (h.width, h.sensor()) == (0, "cam0") && h.captured_unix_ns > 0));
    assert_eq!(error, None);
}

#[tokio::test]
async fn starts_again_from_memory_where_it_is_told_to() {
    let folder = folder(&[("a.png", b"one"), ("b.png", b"two")]);
    let path = folder.path().to_owned();
    let bench = Bench::default();
    let settings = ReplaySettings { repeat: true, ..settings(std::slice::from_ref(&path)) };
    bench
        .run(Box::new(Replay::new(settings)), async |bench| {
            until(|| bench.count() >= 3).await;
            fs::remove_dir_all(&path).unwrap();
            let (made, count) = (bench.pool().made(), bench.count());
            until(|| bench.count() >= count + 5).await;
            assert_eq!(bench.pool().made(), made, "steady state takes no new memory");
        })
        .await;
    assert_eq!(bench.frames()[2].1, b"one");
    assert_eq!(bench.frames()[2].0.seq, 3);
}

#[tokio::test]
async fn large_sets_are_read_again_for_each_pass() {
    let large = vec![1; CACHE / 2 + 1];
    let folder = folder(&[("a.png", &large), ("b.png", &large), ("c.png", b"c")]);
    let settings = ReplaySettings { repeat: true, max_frame: CACHE, ..settings(&[folder.path().into()]) };
    let (frames, error) = all(settings, 7).await;
    assert_eq!(frames[6].1, large);
    assert_eq!(frames[5].1, b"c");
    assert_eq!(error, None);
}

#[tokio::test]
async fn cuts_a_series_into_windows() {
    let rows: String = (0..10).map(|i| format!("{i},{}\n", -i)).collect();
    let folder = folder(&[("v.csv", format!("x,y\n{rows}").as_bytes())]);
    let series = SeriesSettings { window: 4, rate_hz: 12_800.0 };
    let settings = ReplaySettings { csv: series, ..settings(&[folder.path().join("v.csv")]) };
    assert_eq!(Replay::new(settings.clone()).largest_frame(), 32);
    let (frames, error) = all(settings, 2).await;
    assert_eq!(frames.len(), 2);
    let (header, content) = &frames[1];
    assert_eq!((header.kind, header.format, header.width, header.height), (Kind::Series, Format::F32, 4, 1));
    assert_eq!((header.channels, header.rate_mhz, header.len), (2, 12_800_000, 32));
    assert_eq!(content[..8], [4.0f32.to_le_bytes(), (-4.0f32).to_le_bytes()].concat());
    assert_eq!(error, None);
}

#[tokio::test]
async fn raw_files_hold_one_image_after_the_other() {
    let folder = folder(&[("a.raw", &[1; 24]), ("b.raw", &[2; 13])]);
    let raw = RawImage { width: 2, height: 2, pixel: PixelFormat::Rgb8 };
    let settings = ReplaySettings { raw: Some(raw), ..settings(&[folder.path().into()]) };
    let (frames, _) = all(settings, 2).await;
    let header = frames[1].0;
    assert_eq!((header.format, header.width, header.height, header.stride), (Format::Rgb8, 2, 2, 6));
    assert_eq!(frames[1].1, [1; 12]);
}

#[tokio::test]
async fn reports_files_that_give_no_frames_and_goes_on() {
    let folder = folder(&[("a.bin", b""), ("b.bin", &[0; 200_000]), ("c.csv", b"1,x"), ("d.json", b"{}")]);
    let absent = folder.path().join("absent");
    let probe = |files: &[PathBuf]| Replay::probe(&settings(files));
    assert_eq!(probe(&[folder.path().into()]), Ok("4 files".into()));
    assert!(probe(&[folder.path().into(), absent.clone()]).unwrap_err().contains("absent"));
    assert!(probe(&[]).is_err());
    let settings = settings(&[absent, folder.path().into()]);
    let (frames, error) = all(settings, 1).await;
    assert_eq!(frames[0].0.kind, Kind::Json);
    let error = error.unwrap();
    assert!(error.contains("4 refused") && error.contains("c.csv"), "{error}");
}

#[tokio::test]
async fn says_that_nothing_gives_a_frame_and_recovers() {
    let folder = folder(&[]);
    let path = folder.path().to_owned();
    Bench::default()
        .run(Box::new(Replay::new(settings(std::slice::from_ref(&path)))), async |bench| {
            until(|| bench.report().error.is_some_and(|error| error.contains("no file gives a frame"))).await;
            fs::write(path.join("late.png"), b"late").unwrap();
            until(|| bench.count() == 1).await;
            until(|| bench.report().error.is_none()).await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn keeps_its_rate_and_waits_for_someone_who_wants_frames() {
    let folder = folder(&[("a.png", b"a")]);
    let settings = ReplaySettings { rate: 4.0, repeat: true, ..settings(&[folder.path().into()]) };
    let bench = Bench::default();
    bench.want(false);
    bench
        .run(Box::new(Replay::new(settings)), async |bench| {
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!(bench.count(), 0);
            bench.want(true);
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!((38..=42).contains(&bench.count()), "{}", bench.count());
        })
        .await;
}
