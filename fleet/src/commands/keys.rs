//! `sanderling keys`, and the commands that change who signs.

use anyhow::Result;
use sanderling_protocol::tuf::author::Signer as _;

use super::Scene;
use crate::{
    cli::{Keys, RootOptions},
    clock,
    keys::{self, SigningRole},
    repo::{self, Change, Changed, RoleKeysReport},
};

/// Carries out a command on keys.
pub(super) fn run(command: Keys, scene: &Scene) -> Result<()> {
    let Scene { home, say, .. } = scene;
    match command {
        Keys::Create { kind, role, count } => {
            for made in keys::create(home, kind, &role, count)? {
                say.result(&[format!("{} key {} in {}", made.role, made.key_id, made.file.display())], &made)?;
            }
        }
        Keys::List => list(scene)?,
        Keys::Public { key } => {
            let public = keys::read(&key)?.key();
            println!("{}", serde_json::to_string(&public)?);
        }
        Keys::Rotate { role, replace, source, root } => change(scene, role, Change::Rotate(replace, source), root)?,
    }
    Ok(())
}

fn list(scene: &Scene) -> Result<()> {
    let (roles, others) = repo::keys_report(&scene.home)?;
    let mut words: Vec<String> = roles.iter().flat_map(describe_role).collect();
    words.extend(
        others.iter().map(|file| format!("{} signs for no role; delete it unless it is to come", file.display())),
    );
    let roles: Vec<_> = roles.iter().map(RoleKeysReport::to_json).collect();
    scene.say.result(&words, &serde_json::json!({ "roles": roles, "unused": others }))?;
    Ok(())
}

fn describe_role(role: &RoleKeysReport) -> Vec<String> {
    let mut words = vec![format!("{}: {} of {} keys must sign", role.role, role.threshold, role.keys.len())];
    for (id, scheme, file) in &role.keys {
        let place = file.as_ref().map_or_else(|| "not here".to_owned(), |file| file.display().to_string());
        words.push(format!("  {id} {scheme}, {place}"));
    }
    words
}

impl RoleKeysReport {
    fn to_json(&self) -> serde_json::Value {
        let key = |(id, scheme, file): &(String, String, Option<std::path::PathBuf>)| serde_json::json!({ "key_id": id, "scheme": scheme, "file": file });
        let keys: Vec<_> = self.keys.iter().map(key).collect();
        serde_json::json!({ "role": self.role, "threshold": self.threshold, "keys": keys })
    }
}

/// Changes who signs for a role, and tells what that made new.
pub(super) fn change(scene: &Scene, role: SigningRole, change: Change, root: RootOptions) -> Result<()> {
    let changed = repo::change(&scene.home, role, change, root.hold, root.expiry, clock::unix_seconds())?;
    scene.say.result(&describe(&changed), &changed)?;
    Ok(())
}

fn describe(changed: &Changed) -> Vec<String> {
    let role = changed.role;
    let mut words = Vec::new();
    if let Some(id) = &changed.added {
        let place = changed.key_file.as_ref().map(|file| format!(", made in {}", file.display())).unwrap_or_default();
        words.push(format!("{role}: key {id} signs{place}"));
    }
    if let Some(id) = &changed.removed {
        words.push(format!("{role}: key {id} signs no longer; delete its file once this is published"));
    }
    if let Some(threshold) = changed.threshold {
        words.push(format!("{role}: {threshold} keys must sign"));
    }
    if let Some(root) = &changed.root {
        words.push(match &root.missing {
            None if root.installed => format!("root {} is in force", root.version),
            None => format!("root {} waits to be completed", root.version),
            Some(missing) => format!("root {} waits: {missing}", root.version),
        });
    }
    words.extend(signed_words(&changed.signed));
    words.extend(changed.waits.iter().map(|why| format!("not signed here: {why}")));
    words.extend(changed.next.iter().map(|step| format!("next: {step}")));
    words
}

/// `signed releases 2, snapshot 3`, where something was.
pub(super) fn signed_words(signed: &[(String, u64)]) -> Option<String> {
    let words: Vec<String> = signed.iter().map(|(role, version)| format!("{role} {version}")).collect();
    (!words.is_empty()).then(|| format!("signed {}", words.join(", ")))
}
