use std::{fs, os::unix::fs::PermissionsExt};

use sanderling_guest::frame::{FrameHeader, Kind};

use super::*;
use crate::sensors::{
    Content,
    fake::{Bench, until},
    lines::tests::settings as lines,
};

fn shell(script: &str, frames: ProcessFrames) -> ProcessSettings {
    ProcessSettings {
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        environment: BTreeMap::new(),
        folder: "/".into(),
        always: false,
        frames,
    }
}

fn by_lines(script: &str) -> ProcessSettings {
    shell(script, ProcessFrames::Lines(lines(Content::Bytes, 200)))
}

fn contents(bench: &Bench) -> Vec<String> {
    bench.frames().into_iter().map(|(_, content)| String::from_utf8(content).unwrap()).collect()
}

fn runs(pid: &str) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn gives_lines_of_a_command_that_gets_nothing_from_the_agent() {
    let mut settings = by_lines("env | sort; pwd; cat; cut -d' ' -f5 /proc/$$/stat; echo $$; exec sleep 1000");
    settings.environment.insert("WORD".into(), "given".into());
    Bench::default()
        .run(Box::new(Process::new(settings)), async |bench| {
            until(|| bench.count() == 6).await;
            let lines = contents(bench);
            // The shell itself sets PWD.
            assert_eq!(lines[..4], [format!("PATH={PATH}"), "PWD=/".into(), "WORD=given".into(), "/".into()]);
            assert_eq!(lines[4], lines[5], "it leads a group of its own");
            assert_eq!(bench.report().error, None);
        })
        .await;
}

#[tokio::test]
async fn ends_with_all_that_it_started_when_the_sensor_does() {
    let bench = Bench::default();
    let script = "trap '' TERM; sleep 1000 & echo $!; echo $$; wait";
    bench
        .run(Box::new(Process::new(by_lines(script))), async |bench| {
            until(|| bench.count() == 2).await;
            assert!(contents(bench).iter().all(|pid| runs(pid)));
        })
        .await;
    let pids = contents(&bench);
    until(|| !pids.iter().any(|pid| runs(pid))).await;
    // Reaped too, not only dead.
    until(|| !Path::new("/proc").join(&pids[1]).exists()).await;
}

#[tokio::test]
async fn runs_only_while_somebody_wants_its_frames() {
    let bench = Bench::default();
    bench.want(false);
    let script = "trap 'echo asked; exit 0' TERM; echo $$; while :; do sleep 0.01; done";
    bench
        .run(Box::new(Process::new(by_lines(script))), async |bench| {
            tokio::time::timeout(Duration::from_millis(300), until(|| bench.count() > 0)).await.unwrap_err();
            bench.want(true);
            until(|| bench.count() == 1).await;
            let pid = contents(bench)[0].clone();
            bench.want(false);
            until(|| !Path::new("/proc").join(&pid).exists()).await;
            assert_eq!(bench.report().error, None);
            bench.want(true);
            until(|| bench.count() >= 2).await;
        })
        .await;
    let always = ProcessSettings { always: true, ..by_lines("echo up; exec sleep 1000") };
    bench.want(false);
    let before = bench.count();
    bench.run(Box::new(Process::new(always)), async |bench| until(|| bench.count() > before).await).await;
}

#[tokio::test]
async fn a_command_that_ends_is_started_again_and_its_last_word_reported() {
    Bench::default()
        .run(
            Box::new(Process::new(by_lines("echo one; echo no camera there >&2; printf half; exit 3"))),
            async |bench| {
                until(|| bench.count() == 2).await;
                assert_eq!(contents(bench), ["one", "one"]);
                until(|| bench.report().error.is_some_and(|error| error.contains("exit status"))).await;
                let error = bench.report().error.unwrap();
                assert!(error.contains("exit status 3: no camera there"), "{error}");
                assert!(bench.refused().unwrap().contains("torn"));
            },
        )
        .await;
}

#[tokio::test]
async fn says_what_keeps_a_command_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    let settings = |path: &Path| ProcessSettings { command: vec![path.to_str().unwrap().into()], ..by_lines("") };
    assert!(Process::probe(&settings(&path)).unwrap_err().contains("check `command`"));
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(Process::probe(&settings(&path)).is_ok());
    assert!(Process::probe(&settings(folder.path())).unwrap_err().contains("no file"));
    Bench::default()
        .run(Box::new(Process::new(settings(&folder.path().join("none")))), async |bench| {
            until(|| bench.report().error.is_some_and(|error| error.contains("cannot be started"))).await;
        })
        .await;
}

#[tokio::test]
async fn takes_frames_by_length_and_ends_a_command_that_writes_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames");
    let mut bytes = Vec::new();
    let header = FrameHeader { kind: Kind::Json, ..FrameHeader::new("liar", 0) };
    wire::put(&header, b"{}", &mut bytes);
    wire::put(&header, &[7; 500], &mut bytes);
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let script = format!("cat {}; echo $$ >{}/pid; exec sleep 1000", path.display(), folder.path().display());
    let settings = shell(&script, ProcessFrames::LengthPrefixed { max_frame: 500 });
    Bench::default()
        .run(Box::new(Process::new(settings)), async |bench| {
            until(|| bench.report().error.is_some_and(|error| error.contains("no frame"))).await;
            let frames = bench.frames();
            assert_eq!((frames[0].0.kind, frames[0].0.sensor(), frames[1].1.len()), (Kind::Json, "cam0", 500));
            let pid = fs::read_to_string(folder.path().join("pid")).unwrap_or_default();
            until(|| pid.trim().is_empty() || !runs(pid.trim())).await;
        })
        .await;
}

#[tokio::test]
async fn a_command_that_complains_without_end_is_not_held_up() {
    let script = "yes complaint | head -c 1000000 >&2; echo done; exec sleep 1000";
    Bench::default()
        .run(Box::new(Process::new(by_lines(script))), async |bench| until(|| bench.count() == 1).await)
        .await;
}
