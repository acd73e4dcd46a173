//! Commands that speak with the broker: publishing, refreshing, collecting.

use std::path::PathBuf;

use anyhow::{Context, Result};
use sanderling_protocol::{
    capsule::CapsuleId,
    command::{KeptCapsule, ModuleRequest, Restarted},
    topics::DeviceId,
};

use super::{Ended, Scene, keys::signed_words};
use crate::{
    capsule,
    cli::CapsuleCommand,
    clock,
    connection::{self, Connection},
    gc::{self, Collected, GcOptions},
    line::Line,
    logs::{self, LogsOptions},
    provision::{self, BrokerAddress},
    publish::{self, Published},
    repo::{self, RefreshOptions},
    say::plain,
    watch::{self, WatchOptions},
};

async fn connect(scene: &Scene, broker: &BrokerAddress, id: &str) -> Result<Connection> {
    connection::connect(broker, &provision::operator_files(&scene.home), id).await
}

/// Publishes what is signed.
pub(super) async fn publish(scene: &Scene, broker: &BrokerAddress, quick: bool) -> Result<()> {
    let (published, warnings) = send(scene, broker, quick).await?;
    warnings.iter().for_each(|warning| eprintln!("sanderling: {warning}"));
    scene.say.result(&[describe(&published)], &published)?;
    Ok(())
}

async fn send(scene: &Scene, broker: &BrokerAddress, quick: bool) -> Result<(Published, Vec<String>)> {
    let Scene { home, topics, .. } = scene;
    let plan = repo::plan(home, topics)?;
    let _lock = home.lock()?;
    let warnings = repo::expiring(home, 0, clock::unix_seconds())?.iter().map(ToString::to_string).collect();
    let connection = connect(scene, broker, "sanderling-publish").await?;
    Ok((publish::publish(connection, home, topics, &plan, quick).await?, warnings))
}

fn describe(published: &Published) -> String {
    match published.uploaded {
        0 => format!("the broker holds all {} messages already", published.skipped),
        uploaded => format!(
            "published {uploaded} messages, {} bytes; {} were there already",
            published.bytes, published.skipped
        ),
    }
}

/// Signs timestamp and snapshot anew, publishes them where a broker is given, and warns of what expires.
pub(super) async fn refresh(scene: &Scene, options: RefreshOptions, broker: Option<BrokerAddress>) -> Result<Ended> {
    let now = clock::unix_seconds();
    let signed = repo::refresh(&scene.home, options, now)?;
    let published = match &broker {
        None => None,
        Some(broker) => Some(send(scene, broker, true).await.context("signed, but not published")?.0),
    };
    let expiring = repo::expiring(&scene.home, options.warn_days, now)?;
    let mut words: Vec<String> = signed_words(&signed).into_iter().collect();
    words.extend(published.as_ref().map(describe));
    scene.say.result(&words, &serde_json::json!({ "signed": signed, "published": published, "expiring": expiring }))?;
    expiring.iter().for_each(|role| eprintln!("sanderling: {role}"));
    Ok(if expiring.is_empty() { Ended::Well } else { Ended::WantsAttention })
}

/// Shows what devices report and emit.
pub(super) async fn watch(scene: &Scene, broker: &BrokerAddress, options: &WatchOptions) -> Result<()> {
    let connection = connect(scene, broker, "sanderling-watch").await?;
    watch::watch(connection, &scene.topics, options, scene.say.json).await
}

/// Has a device start a module anew.
pub(super) async fn restart(scene: &Scene, broker: &BrokerAddress, device: &DeviceId, module: String) -> Result<()> {
    let mut line = line(scene, broker, device).await?;
    let Restarted { module, was, restarts } = line.ask("restart", &ModuleRequest { module }).await?;
    line.close().await;
    let was = serde_json::to_value(was)?;
    scene.say.line(
        plain(&format!("{module} of {device} is started anew; it was {}", was.as_str().unwrap_or_default())),
        || serde_json::json!({ "device": device, "module": module, "was": was, "restarts": restarts }),
    );
    Ok(())
}

/// Shows what the modules of a device log.
pub(super) async fn logs(scene: &Scene, broker: &BrokerAddress, device: &DeviceId, options: LogsOptions) -> Result<()> {
    let mut line = line(scene, broker, device).await?;
    logs::logs(&mut line, scene.topics.device(device, "log"), options, scene.say.json).await?;
    line.close().await;
    Ok(())
}

async fn line(scene: &Scene, broker: &BrokerAddress, device: &DeviceId) -> Result<Line> {
    let connection = connect(scene, broker, &format!("sanderling-ask-{}", std::process::id())).await?;
    Line::open(connection, &scene.topics, device).await
}

/// Lists or fetches capsules.
pub(super) async fn capsule(scene: &Scene, command: CapsuleCommand) -> Result<()> {
    match command {
        CapsuleCommand::List { device, broker } => {
            let mut line = line(scene, &broker, &device).await?;
            let listed = capsule::list(&mut line).await?;
            line.close().await;
            let words: Vec<String> =
                listed.iter().map(|one| format!("{}  {} KiB", one.id, one.length.div_ceil(1024))).collect();
            scene.say.result(&words, &listed)?;
        }
        CapsuleCommand::Fetch { device, id, output, broker } => {
            fetch(scene, line(scene, &broker, &device).await?, id, output).await?;
        }
    }
    Ok(())
}

async fn fetch(scene: &Scene, mut line: Line, id: Option<CapsuleId>, output: Option<PathBuf>) -> Result<()> {
    let (id, file) = capsule::fetch(&mut line, id, output).await?;
    line.close().await;
    scene.say.line(
        format!("wrote {}; run it again with: sanderling replay {}", file.display(), file.display()),
        || serde_json::json!({ "id": id, "file": file }),
    );
    Ok(())
}

/// Has a module's next frame kept as a capsule, and gets that.
pub(super) async fn capture_module(
    scene: &Scene,
    broker: &BrokerAddress,
    device: &DeviceId,
    module: String,
    output: Option<PathBuf>,
) -> Result<()> {
    let mut line = line(scene, broker, device).await?;
    let kept: KeptCapsule = line.ask("capture", &serde_json::json!({ "module": module })).await?;
    if kept.partial {
        eprintln!(
            "sanderling: the capsule has the frame alone and cannot be run again: the guest's memory does not fit `limits.capsule_kib` of \
             its deployment"
        );
    }
    fetch(scene, line, Some(kept.capsule), output).await
}

/// Gets the next frame of a sensor.
pub(super) async fn capture(
    scene: &Scene,
    broker: &BrokerAddress,
    device: &DeviceId,
    sensor: &str,
    output: Option<PathBuf>,
) -> Result<()> {
    let mut line = line(scene, broker, device).await?;
    let (captured, content) = capsule::capture(&mut line, sensor).await?;
    line.close().await;
    let file = capsule::write_frame(&captured, &content, output)?;
    scene.say.line(
        format!(
            "wrote {}: frame {}, {} {}x{}",
            file.display(),
            captured.seq,
            plain(&captured.format),
            captured.width,
            captured.height
        ),
        || serde_json::json!({ "file": file, "seq": captured.seq, "format": captured.format }),
    );
    Ok(())
}

/// Removes what nothing refers to from the broker.
pub(super) async fn collect(scene: &Scene, broker: &BrokerAddress, options: GcOptions) -> Result<()> {
    let Scene { home, topics, .. } = scene;
    // Without a repository there is no folder for the lock.
    repo::deployments_version(home)?;
    let _lock = home.lock()?;
    let connection = connect(scene, broker, "sanderling-gc").await?;
    let collected = gc::collect(connection, home, topics, options).await?;
    scene.say.result(&describe_collected(&collected), &collected)?;
    Ok(())
}

fn describe_collected(collected: &Collected) -> Vec<String> {
    let Collected { metadata, indexes, chunks, bytes, dry_run, .. } = collected;
    let verb = if *dry_run { "would remove" } else { "removed" };
    let kept: Vec<String> = collected.kept_snapshots.iter().map(ToString::to_string).collect();
    let mut words = vec![
        format!("{verb} {metadata} metadata messages, {indexes} indexes, {chunks} chunks: {bytes} bytes"),
        format!("kept whole: snapshot {}", kept.join(", ")),
    ];
    words.extend(collected.unseen.filter(|unseen| *unseen > 0).map(|unseen| {
        format!("the broker did not deliver {unseen} messages that are in use: its queue dropped some, and others may have been missed. Raise max_queued_messages, or publish if they are really gone")
    }));
    words
}
