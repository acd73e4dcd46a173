//! A refresh, message by message, with the client as it is before each.

use std::collections::BTreeMap;

use sanderling_protocol::tuf::{Refresh, Step, Trusted};
use serde_json::Value;

/// Messages by name: `2.root`, `timestamp`, … as they are asked for, `root`, … as they are stored.
pub type Files = BTreeMap<String, Vec<u8>>;

/// One message of a refresh.
#[derive(Debug, Clone)]
pub struct Place {
    /// The role that is asked for.
    pub role: String,
    /// The client, before the message.
    pub before: Refresh,
    /// The message as it was signed; `None` where the repository has none, and says so.
    pub message: Option<Vec<u8>>,
    /// Whether signed metadata lists a digest of it, so that no other bytes will do.
    pub exact: bool,
    /// Sets of keys (by number) that an attacker may hold without being able to sign for the role.
    pub stolen: Vec<usize>,
}

/// A refresh that succeeds.
#[derive(Debug, Clone)]
pub struct Walk {
    /// What it is for, in failures.
    pub name: &'static str,
    /// Its messages in order.
    pub places: Vec<Place>,
    /// What the client trusts at its end.
    pub end: String,
    /// Messages from which an attacker may take parts: of this refresh and of earlier ones.
    pub others: Vec<Vec<u8>>,
}

impl Walk {
    /// Goes through a refresh that `files` serves. `stolen` says which keys an attacker may hold for a role.
    pub(crate) fn through(
        name: &'static str,
        mut refresh: Refresh,
        files: &Files,
        stolen: impl Fn(&str) -> Vec<usize>,
    ) -> Self {
        let mut places = Vec::new();
        while let Step::Fetch(spec) = refresh.next() {
            let asked = spec.version.map_or(spec.role.clone(), |version| format!("{version}.{}", spec.role));
            let message = files.get(&asked).cloned();
            let exact = message.is_some() && lists_digest(&places, &spec.role);
            let stolen = stolen(&spec.role);
            places.push(Place { role: spec.role, before: refresh.clone(), message: message.clone(), exact, stolen });
            hand_in(&mut refresh, message.as_deref()).unwrap_or_else(|error| panic!("{name}: {asked}: {error}"));
        }
        let end = view(refresh.trusted());
        Self { name, places, end, others: files.values().cloned().collect() }
    }

    /// Goes on behind the place `at` with what is honest; gives what the client trusts at the end.
    pub fn finish(&self, at: usize, mut refresh: Refresh) -> Result<String, String> {
        for place in &self.places[at + 1..] {
            hand_in(&mut refresh, place.message.as_deref()).map_err(|error| format!("{}: {error}", place.role))?;
        }
        if refresh.next() != Step::Done {
            return Err(format!("the refresh is not done, but wants {:?}", refresh.next()));
        }
        Ok(view(&refresh.finish()))
    }
}

fn hand_in(refresh: &mut Refresh, message: Option<&[u8]>) -> Result<(), sanderling_protocol::tuf::TrustError> {
    match message {
        Some(message) => refresh.supply(message),
        None => refresh.absent(),
    }
}

/// Whether a digest of the role's message stands in what was handed in before.
fn lists_digest(places: &[Place], role: &str) -> bool {
    let lister = match role {
        "root" | "timestamp" => return false,
        "snapshot" => "timestamp",
        _ => "snapshot",
    };
    let lister = places.iter().find(|place| place.role == lister).and_then(|place| place.message.as_ref());
    let lister: Value = serde_json::from_slice(lister.unwrap()).unwrap();
    lister["signed"]["meta"][format!("{role}.json")]["hashes"].is_object()
}

/// Everything that is trusted, as text: two clients that trust the same have the same.
pub(crate) fn view(trusted: &Trusted) -> String {
    let heads: Vec<_> =
        trusted.files().map(|(role, _)| (role.to_owned(), trusted.version(role), trusted.expires(role))).collect();
    format!("{heads:?} {:?} {:?}", trusted.root(), trusted.targets_under(""))
}
