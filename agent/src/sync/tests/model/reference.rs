//! What is true outside of the device: what the operator signed, and what is wrong just now.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index, strategy::BoxedStrategy};
use proptest_state_machine::ReferenceStateMachine;

use crate::sync::tests::world::Behaviour;

/// So many modules there are.
pub(super) const MODULES: u8 = 4;

/// A deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its modules.
    pub(super) modules: BTreeSet<u8>,
    /// Tells two of the same modules apart.
    pub(super) config: u8,
}

/// One step of a history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The operator signs and publishes a deployment.
    Deploy(Wanted),
    /// The operator takes the deployment back.
    Undeploy,
    /// The operator takes a module back, or releases it again.
    Withdraw(u8),
    Release(u8),
    /// The operator publishes a new root.
    RotateRoot,
    /// The operator signs the same again.
    Resign,
    LinkUp(u16),
    LinkDown,
    /// The power is cut after so many more steps of the device.
    PowerCut(u8),
    /// Time passes, in milliseconds.
    Pass(u32),
    /// The system's clock jumps by so many seconds.
    Clock(i64),
    /// The broker spoils, loses, or swaps one of its messages for another.
    Spoil(Index),
    Forget(Index),
    Swap(Index, Index),
    /// The broker drops so many messages.
    Lose(u8),
    /// The broker has all again as it was published.
    Honest,
    /// A module behaves so from now on.
    Behave(u8, Option<Behaviour>),
    /// A module that was started faults.
    Fault(u8),
    /// Frames come, or do not.
    Frames(bool),
    /// The disk takes no change, or does again.
    Disk(bool),
    /// So much is free on the disk.
    Free(u64),
    /// Bits flip in a blob; the parts of blobs are lost.
    Damage(u8),
    LoseParts,
    /// There is no room for two deployments side by side, or there is.
    Room(bool),
    /// An answer that nobody asked for.
    Stray(u8),
    /// Somebody asks for a look at the metadata.
    Look,
}

/// The model.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// What the operator wants.
    pub(super) wanted: Option<Wanted>,
    /// Which modules are released.
    pub(super) released: BTreeSet<u8>,
    pub(super) up: bool,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { wanted: None, released: (0..MODULES).collect(), up: false }).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Step> {
        let wanted = (proptest::collection::btree_set(0..MODULES, 1..3), 0..3_u8);
        let deploy = wanted.prop_map(|(modules, config)| Step::Deploy(Wanted { modules, config }));
        let behaviour = prop_oneof![
            Just(None),
            Just(Some(Behaviour::FailsDryStart)),
            Just(Some(Behaviour::FailsStart)),
            Just(Some(Behaviour::FaultsOnFrames)),
        ];
        let link = if state.up {
            Just(Step::LinkDown).boxed()
        } else {
            prop_oneof![Just(20), Just(1), Just(u16::MAX)].prop_map(Step::LinkUp).boxed()
        };
        const YEAR: i64 = 365 * 86_400;
        let clock = prop_oneof![
            Just(0),
            Just(-1_800_000_000),
            Just(10 * YEAR),
            Just(-10 * YEAR),
            Just(348_000_000),
            -100_000..100_000_i64
        ];
        let operator = prop_oneof![
            6 => deploy,
            1 => Just(Step::Undeploy),
            2 => (0..MODULES).prop_map(Step::Withdraw),
            2 => (0..MODULES).prop_map(Step::Release),
            1 => Just(Step::RotateRoot),
            1 => Just(Step::Resign),
            1 => Just(Step::Look),
        ];
        let broker = prop_oneof![
            2 => any::<Index>().prop_map(Step::Spoil),
            2 => any::<Index>().prop_map(Step::Forget),
            1 => (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Step::Swap(one, other)),
            2 => (1..40_u8).prop_map(Step::Lose),
            3 => Just(Step::Honest),
            4 => link,
        ];
        let device = prop_oneof![
            4 => any::<u8>().prop_map(Step::PowerCut),
            6 => prop_oneof![0..2_000_u32, 8_000..13_000_u32, 0..400_000_u32].prop_map(Step::Pass),
            1 => clock.prop_map(Step::Clock),
            2 => ((0..MODULES), behaviour).prop_map(|(module, behaviour)| Step::Behave(module, behaviour)),
            2 => any::<u8>().prop_map(Step::Fault),
            1 => any::<bool>().prop_map(Step::Frames),
            1 => any::<bool>().prop_map(Step::Disk),
            1 => prop_oneof![Just(1 << 30), 0..200_000_u64].prop_map(Step::Free),
            1 => any::<u8>().prop_map(Step::Damage),
            1 => Just(Step::LoseParts),
            1 => any::<bool>().prop_map(Step::Room),
            1 => any::<u8>().prop_map(Step::Stray),
        ];
        prop_oneof![2 => operator, 2 => broker, 3 => device].boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        match step {
            Step::LinkUp(_) => !state.up,
            Step::LinkDown => state.up,
            _ => true,
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        match step {
            Step::Deploy(wanted) => state.wanted = Some(wanted.clone()),
            Step::Undeploy => state.wanted = None,
            Step::Withdraw(module) => drop(state.released.remove(module)),
            Step::Release(module) => drop(state.released.insert(*module)),
            Step::LinkUp(_) => state.up = true,
            Step::LinkDown | Step::PowerCut(_) => state.up = false,
            _ => {}
        }
        state
    }
}

impl Reference {
    /// Whether what is wanted can run: all of it is released.
    pub(super) fn can_run(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.modules.is_subset(&self.released))
    }
}
