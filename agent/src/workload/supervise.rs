//! What to do when a module faults: pure policy, `(state, event, now) -> (state, effect)`.
//!
//! A module that faults is started again after a pause that doubles with each restart within the window of its
//! `restart` policy. After `max` restarts within `within_s` seconds the next fault quarantines it.
//!
//! Invariants: an event that cannot be in a state is an [`Illegal`] error and changes nothing.
//!
//! Limits: pauses lie between [`FIRST_PAUSE`] and [`LONGEST_PAUSE`].

use std::{collections::VecDeque, time::Duration};

use sanderling_protocol::{deployment::Restart, reported::ModuleState};
use thiserror::Error;

/// The pause before the first restart.
pub const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// No pause is longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The module's start function returned.
    Running,
    /// The worker is over, for whatever reason.
    Faulted,
    /// The pause is over.
    Due,
    /// Someone asks for the module to be started anew.
    Restart,
    /// The module is to be stopped.
    Stop,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a worker; an old one is ended first.
    Launch,
    /// Wait until then, and say [`Event::Due`].
    Wait(Duration),
    /// Nothing.
    Rest,
}

/// An event that cannot be in this state.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a module that is {state:?} cannot see {event:?}")]
pub struct Illegal {
    /// The state.
    pub state: ModuleState,
    /// The event.
    pub event: Event,
}

/// The state of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervision {
    policy: Restart,
    state: ModuleState,
    due: Duration,
    // When it was started again, oldest first; never longer than the policy's `max`.
    recent: VecDeque<Duration>,
    restarts: u64,
}

impl Supervision {
    /// A module that is being started; the effect is [`Effect::Launch`].
    pub fn new(policy: Restart) -> (Self, Effect) {
        let new =
            Self { policy, state: ModuleState::Starting, due: Duration::ZERO, recent: VecDeque::new(), restarts: 0 };
        (new, Effect::Launch)
    }

    /// Its state.
    pub fn state(&self) -> ModuleState {
        self.state
    }

    /// How often it was started again, ever.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// When it will be started again, where it waits for that.
    pub fn due(&self) -> Option<Duration> {
        (self.state == ModuleState::Faulted).then_some(self.due)
    }

    /// The next state, and what to do.
    ///
    /// # Errors
    /// [`Illegal`] where `event` cannot be in this state.
    pub fn step(&self, event: Event, now: Duration) -> Result<(Self, Effect), Illegal> {
        let mut next = self.clone();
        let effect = match (self.state, event) {
            (ModuleState::Starting, Event::Running) => next.enter(ModuleState::Running, Effect::Rest),
            (ModuleState::Starting | ModuleState::Running, Event::Faulted) => next.fault(now),
            (ModuleState::Faulted, Event::Due) if now < self.due => Effect::Wait(self.due),
            (ModuleState::Faulted, Event::Due) => {
                next.recent.push_back(now);
                next.restarts += 1;
                next.enter(ModuleState::Starting, Effect::Launch)
            }
            (ModuleState::Stopped, _) | (_, Event::Running | Event::Faulted | Event::Due) => {
                return Err(Illegal { state: self.state, event });
            }
            (_, Event::Restart) => {
                next.recent.clear();
                next.restarts += 1;
                next.enter(ModuleState::Starting, Effect::Launch)
            }
            (_, Event::Stop) => next.enter(ModuleState::Stopped, Effect::Rest),
        };
        Ok((next, effect))
    }

    fn enter(&mut self, state: ModuleState, effect: Effect) -> Effect {
        self.state = state;
        effect
    }

    fn fault(&mut self, now: Duration) -> Effect {
        let window = Duration::from_secs(u64::from(self.policy.within_s));
        self.recent.retain(|at| now.saturating_sub(*at) < window);
        if self.recent.len() >= self.policy.max as usize {
            return self.enter(ModuleState::Quarantined, Effect::Rest);
        }
        self.due = now.saturating_add(pause(self.recent.len()));
        self.enter(ModuleState::Faulted, Effect::Wait(self.due))
    }
}

fn pause(restarts: usize) -> Duration {
    let doubled = u32::try_from(restarts).ok().and_then(|restarts| 2u32.checked_pow(restarts));
    doubled.and_then(|factor| FIRST_PAUSE.checked_mul(factor)).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn running(max: u32, within_s: u32) -> Supervision {
        let (new, effect) = Supervision::new(Restart { max, within_s });
        assert_eq!((new.state(), effect), (ModuleState::Starting, Effect::Launch));
        new.step(Event::Running, Duration::ZERO).unwrap().0
    }

    /// Faults, waits out the pause, runs again. `None` where it is quarantined.
    fn fault_and_return(module: &Supervision, now: Duration) -> Option<(Supervision, Duration)> {
        let (faulted, effect) = module.step(Event::Faulted, now).unwrap();
        let Effect::Wait(due) = effect else {
            assert_eq!((faulted.state(), effect), (ModuleState::Quarantined, Effect::Rest));
            return None;
        };
        assert_eq!(faulted.state(), ModuleState::Faulted);
        let (starting, effect) = faulted.step(Event::Due, due).unwrap();
        assert_eq!((starting.state(), effect), (ModuleState::Starting, Effect::Launch));
        Some((starting.step(Event::Running, due).unwrap().0, due))
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut module = running(20, 100_000);
        let mut now = S;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let (next, due) = fault_and_return(&module, now).unwrap();
            pauses.push((due - now).as_millis());
            (module, now) = (next, due);
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(pause(usize::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn quarantines_after_max_restarts_within_the_window() {
        let mut module = running(2, 300);
        for _ in 0..2 {
            module = fault_and_return(&module, S).unwrap().0;
        }
        assert_eq!(module.restarts(), 2);
        assert!(fault_and_return(&module, 2 * S).is_none());
    }

    #[test]
    fn forgets_restarts_that_are_older_than_the_window() {
        let mut module = running(2, 10);
        let mut now = S;
        for _ in 0..20 {
            let (next, due) = fault_and_return(&module, now).unwrap();
            assert_eq!(due - now, FIRST_PAUSE);
            (module, now) = (next, due + 10 * S);
        }
        assert_eq!(module.restarts(), 20);
    }

    #[test]
    fn a_policy_without_restarts_quarantines_at_once() {
        assert!(fault_and_return(&running(0, 300), S).is_none());
    }

    #[test]
    fn a_module_that_faults_while_it_starts_counts_too() {
        let (starting, _) = Supervision::new(Restart { max: 0, within_s: 1 });
        let (after, effect) = starting.step(Event::Faulted, S).unwrap();
        assert_eq!((after.state(), effect), (ModuleState::Quarantined, Effect::Rest));
    }

    #[test]
    fn does_not_start_before_the_pause_is_over() {
        let (faulted, effect) = running(5, 300).step(Event::Faulted, S).unwrap();
        let Effect::Wait(due) = effect else { unreachable!() };
        assert_eq!(faulted.due(), Some(due));
        let (still, effect) = faulted.step(Event::Due, due - Duration::from_nanos(1)).unwrap();
        assert_eq!((still, effect), (faulted, Effect::Wait(due)));
    }

    #[test]
    fn a_restart_lifts_quarantine_and_forgets_faults() {
        let module = running(1, 300);
        let module = fault_and_return(&module, S).unwrap().0;
        let (quarantined, _) = module.step(Event::Faulted, S).unwrap();
        let (starting, effect) = quarantined.step(Event::Restart, 2 * S).unwrap();
        assert_eq!((starting.state(), effect), (ModuleState::Starting, Effect::Launch));
        let module = starting.step(Event::Running, 2 * S).unwrap().0;
        assert!(fault_and_return(&module, 3 * S).is_some());
    }

    #[test]
    fn what_is_stopped_stays_stopped() {
        for module in [running(5, 300), Supervision::new(Restart::default()).0] {
            let (stopped, effect) = module.step(Event::Stop, S).unwrap();
            assert_eq!((stopped.state(), effect), (ModuleState::Stopped, Effect::Rest));
            for event in [Event::Running, Event::Faulted, Event::Due, Event::Restart, Event::Stop] {
                assert_eq!(stopped.step(event, S), Err(Illegal { state: ModuleState::Stopped, event }));
            }
        }
    }

    #[test]
    fn events_out_of_place_are_errors() {
        let module = running(5, 300);
        for event in [Event::Running, Event::Due] {
            assert_eq!(module.step(event, S), Err(Illegal { state: ModuleState::Running, event }));
        }
        let (faulted, _) = module.step(Event::Faulted, S).unwrap();
        for event in [Event::Running, Event::Faulted] {
            assert_eq!(faulted.step(event, S), Err(Illegal { state: ModuleState::Faulted, event }));
        }
    }
}
