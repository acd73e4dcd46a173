//! Which role is asked for a path: the pre-order depth-first search over delegations.
//!
//! Section 5.6.7: a role is visited once, roles are asked in the order in which they are listed, a terminating
//! delegation ends the search behind it, and no more than [`MAX_VISITS`] delegated roles are visited.

use std::collections::{BTreeMap, BTreeSet};

use super::MAX_VISITS;
use super::delegations::{DelegatedRole, Delegations};
use super::error::TrustError;
use super::pattern::{Work, path_matches};
use super::schema::{Snapshot, TargetFile, Targets};
use crate::digest::Digest;

/// A delegation: who delegates, and to whom. The top-level targets role is delegated to by `root`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) delegator: String,
    pub(crate) role: String,
}

impl Edge {
    pub(crate) fn top() -> Self {
        Self { delegator: "root".into(), role: "targets".into() }
    }
}

/// A message that is trusted, and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Kept<T> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signed: T,
}

/// Targets metadata by the delegation under which it was verified.
pub(crate) type Roles = BTreeMap<Edge, Kept<Targets>>;

/// What a refresh loads of the roles that are delegated to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// None of them.
    Top,
    /// All of them.
    All,
    /// Those that a search for this target visits.
    Path(String),
}

impl Scope {
    pub(crate) fn aim<'a>(&'a self, snapshot: &'a Snapshot) -> Aim<'a> {
        match self {
            Self::Top => Aim::Top,
            Self::All => Aim::All(snapshot),
            Self::Path(path) => Aim::Path(path),
        }
    }
}

/// About what a visit takes besides patterns.
const STEPS_OF_A_VISIT: usize = 64;

/// For what delegations are followed.
#[derive(Clone, Copy)]
pub(crate) enum Aim<'a> {
    /// None: the top-level role alone.
    Top,
    /// One target.
    Path(&'a str),
    /// Every named role, and every bin that this snapshot lists.
    All(&'a Snapshot),
}

/// How a search ended.
pub(crate) enum Found<'a> {
    /// The target, and the role that speaks for it.
    Target(&'a TargetFile, &'a str),
    /// No role that is trusted for the path has it. With [`Aim::All`]: everything is loaded.
    Nothing,
    /// The search cannot go on before this role is loaded.
    Missing(Edge),
}

/// Searches among the roles that are loaded, as long as there is work left.
pub(crate) fn search<'a>(roles: &'a Roles, aim: Aim<'_>, work: &mut Work) -> Result<Found<'a>, TrustError> {
    let mut to_visit = vec![Edge::top()];
    let mut visited = BTreeSet::new();
    while let Some(edge) = to_visit.pop() {
        // 5.6.7.1: "If this role has been visited before, then skip this role (so that cycles in the delegation graph are
        // avoided)."
        if !visited.insert(edge.role.clone()) {
            continue;
        }
        work.spend(STEPS_OF_A_VISIT);
        // 5.6.7.1: "Otherwise, if an application-specific maximum number of roles have been visited, …"; the top-level role is none
        // of those that are delegated to.
        if visited.len() > MAX_VISITS + 1 {
            return Err(TrustError::TooManyVisits { limit: MAX_VISITS });
        }
        // 5.6.7: "If any metadata requested … cannot be downloaded nor validated, end the search".
        let Some((edge, metadata)) = roles.get_key_value(&edge) else { return Ok(Found::Missing(edge)) };
        // 5.6.7.1: "Otherwise, if this role contains metadata about the desired target, then go to step 5.7."
        if let Aim::Path(path) = aim
            && let Some(target) = metadata.signed.targets.get(path)
        {
            return Ok(Found::Target(target, &edge.role));
        }
        let Some(delegations) = &metadata.signed.delegations else { continue };
        let (children, terminated) = children(delegations, aim, work);
        if work.is_spent() {
            return Err(TrustError::TooMuchWork { limit: Work::LIMIT });
        }
        // 5.6.7.2.1: "If the current delegation is a terminating delegation, then jump to step 5.7": nothing that was still to
        // be asked is asked, but the role itself and those below it are.
        if terminated {
            to_visit.clear();
        }
        // 5.6.7.2: "Otherwise, recursively search the list of delegations in order of appearance."
        let child = |role| Edge { delegator: edge.role.clone(), role };
        to_visit.extend(children.into_iter().rev().map(child));
    }
    Ok(Found::Nothing)
}

/// The delegated roles to visit, in order, and whether the last of them is terminating.
fn children(delegations: &Delegations, aim: Aim<'_>, work: &mut Work) -> (Vec<String>, bool) {
    if let Some(bins) = &delegations.succinct_roles {
        return match aim {
            Aim::Top => (Vec::new(), false),
            // TAP 15: every bin is terminating.
            Aim::Path(path) => (vec![bins.bin(path)], true),
            Aim::All(snapshot) => {
                let listed = snapshot.meta.keys().filter_map(|file| file.strip_suffix(".json"));
                (listed.filter(|role| bins.has_bin(role)).map(str::to_owned).collect(), false)
            }
        };
    }
    let mut names = Vec::new();
    for role in delegations.roles.iter().flatten() {
        match aim {
            Aim::Top => continue,
            Aim::Path(path) if !is_trusted_for(role, path, work) => continue,
            Aim::Path(_) if role.terminating => {
                names.push(role.name.clone());
                return (names, true);
            }
            _ => names.push(role.name.clone()),
        }
    }
    (names, false)
}

/// Section 4.5: "Clients MUST check that a target is in one of the trusted paths of all roles in a delegation chain".
fn is_trusted_for(role: &DelegatedRole, path: &str, work: &mut Work) -> bool {
    if let Some(prefixes) = &role.path_hash_prefixes {
        work.spend(path.len().saturating_add(prefixes.len()));
        let digest = Digest::of(path.as_bytes()).to_string();
        if prefixes.iter().any(|prefix| digest.starts_with(prefix.as_str())) {
            return true;
        }
    }
    role.paths.iter().flatten().any(|pattern| path_matches(pattern, path, work))
}
