//! Keeps the trusted metadata up to date with what the broker holds.
//!
//! The agent is subscribed to `repo/{n+1}.root`, `n` being the trusted root, and to `repo/timestamp`, asked for in this
//! order in one packet: when the retained timestamp comes and no root came before it, there is no newer root. A root that
//! comes later starts the refresh over. What else a refresh needs is fetched one message at a time.
//!
//! Invariants: what is trusted is handed out to be stored before anything that follows from it; a message that is refused
//! changes nothing; a refresh that cannot go on is tried again after a growing wait, for ever.

use sanderling_protocol::{
    topics::Published,
    tuf::{Refresh, Step, TrustError, Trusted},
};

use super::{
    Capacity, Effect, Message, SyncError,
    backoff::Backoff,
    fetch::{Fetch, Limits},
    turn::{Turn, name},
};

/// How long the broker may take to send the retained timestamp, in milliseconds.
const TIMESTAMP_WITHIN_MS: u64 = 30_000;

/// How long a refresh goes on with the time at which it began, in seconds. TUF fixes that time so that a refresh does not fail half-way;
/// one that waits for days for a role must not take what expired meanwhile.
const REFRESH_WITHIN_S: i64 = 3_600;

/// The time that may be stored as reached: one at which all that is trusted was valid. A clock that was years ahead for a while
/// must not make what is signed later look expired, for ever.
pub(super) fn time_to_save(trusted: &Trusted, unix: i64) -> i64 {
    unix.min(trusted.first_expiry().1.saturating_sub(1))
}

#[derive(Debug)]
enum Phase {
    /// The timestamp, or a root, is awaited.
    Waiting,
    /// A root was taken in; the next one or the timestamp is awaited.
    Rooted(Box<Refresh>),
    /// This message is awaited.
    Following(Box<Refresh>, Published),
}

/// What is trusted, and how far the refresh is.
#[derive(Debug)]
pub(super) struct Trust {
    trusted: Trusted,
    phase: Phase,
    fetch: Fetch,
    backoff: Backoff,
    up: bool,
    /// The root that is subscribed to.
    root: Option<Published>,
    /// When the retained timestamp was asked for, and has not come.
    unheard_since: Option<u64>,
    failures: u32,
    again_at: Option<u64>,
}

impl Trust {
    pub(super) fn new(trusted: Trusted, limits: Limits) -> Self {
        Self {
            trusted,
            phase: Phase::Waiting,
            fetch: Fetch::new(limits),
            backoff: limits.backoff,
            up: false,
            root: None,
            unheard_since: None,
            failures: 0,
            again_at: None,
        }
    }

    pub(super) fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    pub(super) fn link_up(&mut self, capacity: Capacity, turn: &mut Turn<'_>) {
        self.up = true;
        self.fetch.link_up(capacity.messages, turn.now.ms);
        self.listen(turn);
    }

    /// Gives the topics that the link is to forget: at link up they are asked for in the right order again.
    pub(super) fn link_down(&mut self, turn: &mut Turn<'_>) -> Vec<Published> {
        self.up = false;
        self.abandon(turn);
        self.unheard_since = None;
        self.again_at = None;
        let mut forget = self.fetch.link_down();
        if let Some(root) = self.root.take() {
            forget.extend([root, Published::Timestamp]);
        }
        forget
    }

    /// Asks for the retained root and timestamp again.
    pub(super) fn listen(&mut self, turn: &mut Turn<'_>) {
        if !self.up {
            return;
        }
        let version = self.trusted.version("root").unwrap_or(0).saturating_add(1);
        let root = Published::Metadata { version, role: "root".into() };
        if let Some(old) = self.root.replace(root.clone()).filter(|old| *old != root) {
            turn.effect(Effect::Unsubscribe(vec![old]));
        }
        turn.effect(Effect::Subscribe(vec![root, Published::Timestamp]));
        self.unheard_since = Some(turn.now.ms);
        self.again_at = None;
    }

    /// Takes a message in. Says whether a refresh was completed by it.
    pub(super) fn message(&mut self, message: &Message, turn: &mut Turn<'_>) -> Result<bool, SyncError> {
        match &message.what {
            Published::Timestamp => Ok(self.timestamp(&message.payload, turn)),
            what if self.root.as_ref() == Some(what) => {
                self.next_root(&message.payload, turn);
                Ok(false)
            }
            what => self.awaited(what, &message.payload, turn),
        }
    }

    pub(super) fn poll(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.ms;
        if self.again_at.is_some_and(|at| at <= now_ms) {
            self.listen(turn);
        }
        if self.unheard_since.is_some_and(|since| now_ms >= since.saturating_add(TIMESTAMP_WITHIN_MS)) {
            self.unheard_since = None;
            self.later(turn);
            turn.absent(&Published::Timestamp, self.failures);
        }
        let asked = self.fetch.poll(now_ms, turn.chance);
        turn.ask(asked);
    }

    /// How far the refresh is, in a word.
    #[cfg(test)]
    pub(super) fn phase(&self) -> &'static str {
        match &self.phase {
            Phase::Waiting => "waiting",
            Phase::Rooted(_) => "rooted",
            Phase::Following(..) => "following",
        }
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        let unheard = self.unheard_since.map(|since| since.saturating_add(TIMESTAMP_WITHIN_MS));
        [self.again_at, unheard, self.fetch.wake_at()].into_iter().flatten().min()
    }

    fn timestamp(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> bool {
        self.unheard_since = None;
        turn.refusals.came(&name(&Published::Timestamp));
        let mut refresh = self.resume(turn);
        let awaits_root = matches!(refresh.next(), Step::Fetch(spec) if spec.role == "root");
        if awaits_root && let Err(cause) = refresh.absent() {
            let root = format!("repo/{}.root", refresh.trusted().version("root").unwrap_or(0));
            return self.give_up(*refresh, &root, &cause, turn);
        }
        if let Err(cause) = refresh.supply(bytes) {
            return self.give_up(*refresh, &name(&Published::Timestamp), &cause, turn);
        }
        self.advance(refresh, turn)
    }

    fn next_root(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        let mut refresh = self.resume(turn);
        if !matches!(refresh.next(), Step::Fetch(spec) if spec.role == "root") {
            refresh = Box::new(Refresh::start(refresh.finish(), turn.now.unix));
        }
        let before = self.trusted.version("root");
        let result = refresh.supply(bytes);
        self.keep(refresh.trusted().clone(), turn);
        if let (Err(cause), Some(root)) = (&result, &self.root) {
            turn.refuse(name(root), None, cause);
        }
        if self.trusted.version("root") == before {
            // The subscription stands: an honest root, or the timestamp, comes by itself.
            self.phase = Phase::Waiting;
            self.later(turn);
            return;
        }
        self.phase = if result.is_ok() { Phase::Rooted(refresh) } else { Phase::Waiting };
        self.listen(turn);
    }

    fn awaited(&mut self, what: &Published, bytes: &[u8], turn: &mut Turn<'_>) -> Result<bool, SyncError> {
        let not_awaited = || SyncError::NotAwaited { what: name(what) };
        if !matches!(&self.phase, Phase::Following(_, awaited) if awaited == what)
            || !self.fetch.arrived(what, turn.now.ms)
        {
            return Err(not_awaited());
        }
        let Phase::Following(mut refresh, what) = std::mem::replace(&mut self.phase, Phase::Waiting) else {
            return Err(not_awaited());
        };
        if is_old(&refresh, turn) {
            self.fetch.done(&what);
            self.keep(refresh.finish(), turn);
            self.listen(turn);
            return Ok(false);
        }
        Ok(match refresh.supply(bytes) {
            Ok(()) => {
                self.fetch.done(&what);
                turn.refusals.came(&name(&what));
                self.advance(refresh, turn)
            }
            Err(cause) => {
                turn.refuse(name(&what), None, cause);
                self.fetch.again(&what, turn.now.ms, turn.chance);
                self.phase = Phase::Following(refresh, what);
                false
            }
        })
    }

    fn advance(&mut self, refresh: Box<Refresh>, turn: &mut Turn<'_>) -> bool {
        match refresh.next() {
            Step::Fetch(spec) => {
                let Some(version) = spec.version else {
                    let why = "the repository has no consistent snapshots; create it with them";
                    turn.refuse(format!("repo/{}", spec.role), None, why);
                    self.keep(refresh.finish(), turn);
                    self.later(turn);
                    return false;
                };
                let what = Published::Metadata { version, role: spec.role };
                self.fetch.want(what.clone(), spec.max_length);
                // 5.4.5, 5.5.7: "Persist timestamp metadata", "Persist snapshot metadata": floors hold through a power cut here.
                self.keep(refresh.trusted().clone(), turn);
                self.phase = Phase::Following(refresh, what);
                false
            }
            Step::Done => {
                self.keep(refresh.finish(), turn);
                self.failures = 0;
                self.again_at = None;
                true
            }
        }
    }

    /// The refresh to go on with: the one that took in a root, or else a new one.
    fn resume(&mut self, turn: &mut Turn<'_>) -> Box<Refresh> {
        match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Rooted(refresh) if !is_old(&refresh, turn) => return refresh,
            Phase::Rooted(refresh) | Phase::Following(refresh, _) => {
                self.fetch.clear();
                self.keep(refresh.finish(), turn);
            }
            Phase::Waiting => {}
        }
        Box::new(Refresh::start(self.trusted.clone(), turn.now.unix))
    }

    fn abandon(&mut self, turn: &mut Turn<'_>) {
        self.fetch.clear();
        if let Phase::Rooted(refresh) | Phase::Following(refresh, _) =
            std::mem::replace(&mut self.phase, Phase::Waiting)
        {
            self.keep(refresh.finish(), turn);
        }
    }

    fn give_up(&mut self, refresh: Refresh, what: &str, cause: &TrustError, turn: &mut Turn<'_>) -> bool {
        turn.refuse(what, None, cause);
        self.keep(refresh.finish(), turn);
        self.later(turn);
        false
    }

    fn later(&mut self, turn: &mut Turn<'_>) {
        self.failures = self.failures.saturating_add(1);
        self.again_at = Some(turn.now.ms.saturating_add(self.backoff.wait_ms(self.failures, turn.chance)));
    }

    /// Trusts this from now on; what changed is stored first.
    fn keep(&mut self, trusted: Trusted, turn: &mut Turn<'_>) {
        if !trusted.files().eq(self.trusted.files()) {
            let files = trusted.files().map(|(role, bytes)| (role.to_owned(), bytes.to_vec())).collect();
            let time = time_to_save(&trusted, turn.now.unix);
            turn.effect(Effect::PersistTrust { files, time });
        }
        self.trusted = trusted;
    }
}

fn is_old(refresh: &Refresh, turn: &Turn<'_>) -> bool {
    turn.now.unix > refresh.began().saturating_add(REFRESH_WITHIN_S)
}
