//! `sanderling repo`.

use anyhow::Result;

use super::{Ended, Scene, keys, online};
use crate::{
    cli::{Repo, RootSign},
    clock, home,
    repo::{self, Ceremony, Change},
};

/// Carries out a command on the repository.
pub(super) async fn run(command: Repo, scene: &Scene) -> Result<Ended> {
    match command {
        Repo::Refresh { options, publish, broker } => {
            return online::refresh(scene, options, publish.then_some(broker)).await;
        }
        Repo::Publish { quick, broker } => online::publish(scene, &broker, quick).await?,
        Repo::Gc { options, broker } => online::collect(scene, &broker, options).await?,
        Repo::RootSign(command) => root_sign(command, scene)?,
        Repo::AddKey { role, source, root } => keys::change(scene, role, Change::Add(source), root)?,
        Repo::RemoveKey { role, id, root } => keys::change(scene, role, Change::Remove(id), root)?,
        Repo::SetThreshold { role, keys, root } => keys::change(scene, role, Change::Threshold(keys), root)?,
        Repo::Renew { role, root } => keys::change(scene, role, Change::Renew, root)?,
        staging => stage(staging, scene)?,
    }
    Ok(Ended::Well)
}

/// What changes the repository and needs neither broker nor ceremony.
fn stage(command: Repo, scene: &Scene) -> Result<()> {
    let Scene { home, say, .. } = scene;
    match command {
        Repo::Init { thresholds, expiry } => {
            let root = repo::init(home, expiry, &thresholds, clock::unix_seconds())?;
            say.line(
                format!("{} is the root of trust that devices get", root.display()),
                || serde_json::json!({ "root": root }),
            );
        }
        Repo::AddModule { file, path, options } => {
            let digest = repo::add_module(home, &file, &path, options)?;
            say.line(format!("{path} {digest}"), || serde_json::json!({ "path": path, "sha256": digest }));
        }
        Repo::AddModel { file, path } => {
            let digest = repo::add_model(home, &file, &path)?;
            say.line(format!("{path} {digest}"), || serde_json::json!({ "path": path, "sha256": digest }));
        }
        Repo::Deploy { file, options } => {
            let path = repo::deploy(home, &home::read(&file)?, options)?;
            say.line(format!("{path} is staged"), || serde_json::json!({ "path": path }));
        }
        Repo::Remove { what, name } => {
            let removed = repo::remove(home, &what, name.as_deref())?;
            let mut words: Vec<String> = removed.removed.iter().map(|path| format!("{path} is taken back")).collect();
            let named = removed.named_by.iter();
            words.extend(named.map(|path| format!("{path} still names it: devices that run it will stop that module")));
            words.push("devices are told by `sanderling repo sign` and `sanderling repo publish`".to_owned());
            say.result(&words, &removed)?;
        }
        Repo::Sign(expiry) => {
            let signed = repo::sign(home, expiry, clock::unix_seconds())?;
            say.result(&keys::signed_words(&signed.roles).into_iter().collect::<Vec<_>>(), &signed)?;
        }
        // The caller has carried out all others.
        _ => {}
    }
    Ok(())
}

fn root_sign(command: RootSign, scene: &Scene) -> Result<()> {
    let Scene { home, say, .. } = scene;
    let ceremony = match command {
        RootSign::Export { file } => {
            let ceremony = repo::export(home, &file)?;
            let mut words = describe(&ceremony);
            words.push(format!(
                "written to {}; each signer signs it with `sanderling repo root-sign sign {} --key KEY`",
                file.display(),
                file.display()
            ));
            return Ok(say.result(&words, &ceremony)?);
        }
        RootSign::Show { file } => repo::show(&file)?,
        RootSign::Sign { file, key, out } => {
            let ceremony = repo::sign_elsewhere(&file, &key, out.as_deref())?;
            let mut words = describe(&ceremony);
            let file = out.unwrap_or(file);
            words.push(format!("signed; bring {} back, or to the next signer", file.display()));
            return Ok(say.result(&words, &ceremony)?);
        }
        RootSign::Import { files, expiry } => repo::import(home, &files, expiry, clock::unix_seconds())?,
        RootSign::Complete(expiry) => repo::complete(home, expiry, clock::unix_seconds())?,
        RootSign::Status => repo::status(home)?,
        RootSign::Cancel => {
            let cancelled = repo::cancel(home)?;
            let words = if cancelled { "the root that waited is given up" } else { "no root waited" };
            say.line(words.to_owned(), || serde_json::json!({ "cancelled": cancelled }));
            return Ok(());
        }
    };
    let mut words = describe(&ceremony);
    words.extend(ceremony.next_steps().into_iter().map(|step| format!("next: {step}")));
    Ok(say.result(&words, &ceremony)?)
}

fn describe(ceremony: &Ceremony) -> Vec<String> {
    let mut words = ceremony.summary.clone();
    words.extend(ceremony.signed_by.iter().map(|id| format!("signed by {id}")));
    words.push(match (&ceremony.missing, ceremony.installed) {
        (_, true) => format!("root {} is in force", ceremony.version),
        (Some(missing), _) => format!("missing: {missing}"),
        (None, _) => "nothing is missing".to_owned(),
    });
    words.extend(keys::signed_words(&ceremony.signed));
    words.extend(ceremony.waits.iter().map(|why| format!("not signed here: {why}")));
    words
}
