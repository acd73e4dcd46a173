//! What a guest may use: memory, fuel, time, rates.
//!
//! A call into a guest has a [`Budget`]; the interpreter gets it in slices, so that the clock and the stop request are
//! looked at every few hundred microseconds. Memory and tables are counted together over all memories of the
//! module, by a limiter that answers `memory.grow` with -1 beyond `memory_mib`.

use sanderling_protocol::deployment::Limits;
use wasmi::{
    ResourceLimiter,
    errors::{MemoryError, TableError},
};
use wasmi_core::LimiterError;

const MIB: usize = 1 << 20;
/// A table element is counted with this many bytes.
const ELEMENT: usize = 16;
/// A guest has at most so many tables …
const MOST_TABLES: usize = 64;
/// … and memories.
const MOST_MEMORIES: usize = 16;
/// The first slice of fuel is small, since it is not known yet how long the guest takes for its fuel: a call of a function with many
/// locals costs as little as one without.
const FIRST_SLICE: u64 = 50_000;
/// No slice is smaller, however slow the guest; one that copies its largest frames all the time takes about a millisecond for it.
const MIN_SLICE: u64 = 10_000;
/// The largest slice of fuel; it takes the interpreter about half a millisecond. wasmi takes native stack for each `memory.grow` until the
/// slice ends: with [`GROW_FUEL`], a megabyte at most.
const MAX_SLICE: u64 = 1_000_000;
const SLICE_PER_DEADLINE_MS: u64 = 200_000;
/// How much larger a slice is than the one before, while slices are quick.
const SLICE_GROWTH: u64 = 4;
/// A slice that takes longer makes those after it smaller.
const SLOW_SLICE_NS: u64 = 2_000_000;
/// What the slices after a slow one should take.
const SLICE_NS: u64 = 1_000_000;
/// What `memory.grow` and `table.grow` cost besides the memory that they fill: the most that wasmi lets an instruction cost.
pub const GROW_FUEL: u8 = u8::MAX;
/// Start functions may build plans and tables: they get this many frames' worth of fuel and time …
const START_FRAMES: u64 = 10;
/// … and at least this much time.
const MIN_START_NS: u64 = 5_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// What one call into a guest may still use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Fuel for the whole call.
    pub(crate) fuel: u64,
    /// Fuel used so far, native work included.
    pub(crate) used: u64,
    /// Monotonic time at which it must have ended.
    pub(crate) deadline_ns: u64,
    /// Monotonic time when the clock was last looked at.
    pub(crate) now_ns: u64,
    /// Fuel until the next look at the clock.
    pub(crate) slice: u64,
    most_per_slice: u64,
}

impl Budget {
    /// For one frame, or for `sanderling_stop`, that began at `now_ns`.
    pub(crate) fn frame(limits: &Limits, now_ns: u64) -> Self {
        let deadline_ms = u64::from(limits.deadline_ms);
        Self {
            fuel: limits.fuel_per_frame,
            used: 0,
            now_ns,
            deadline_ns: now_ns.saturating_add(deadline_ms.saturating_mul(NS_PER_MS)),
            slice: FIRST_SLICE,
            most_per_slice: (deadline_ms * SLICE_PER_DEADLINE_MS).clamp(FIRST_SLICE, MAX_SLICE),
        }
    }

    /// For the start functions together, begun at `now_ns`.
    pub(crate) fn start(limits: &Limits, now_ns: u64) -> Self {
        let time = (u64::from(limits.deadline_ms) * NS_PER_MS * START_FRAMES).max(MIN_START_NS);
        Self {
            fuel: limits.fuel_per_frame.saturating_mul(START_FRAMES),
            deadline_ns: now_ns.saturating_add(time),
            ..Self::frame(limits, now_ns)
        }
    }

    pub(crate) fn left(&self) -> u64 {
        self.fuel.saturating_sub(self.used)
    }

    /// Notes the time after a slice of `granted` fuel, and makes the next one larger or smaller by what it took.
    pub(crate) fn look(&mut self, granted: u64, now_ns: u64) {
        let took_ns = now_ns.saturating_sub(std::mem::replace(&mut self.now_ns, now_ns));
        let next = if took_ns > SLOW_SLICE_NS {
            granted.saturating_mul(SLICE_NS) / took_ns
        } else {
            self.slice.saturating_mul(SLICE_GROWTH)
        };
        self.slice = next.clamp(MIN_SLICE, self.most_per_slice);
    }
}

/// Holds all memories and tables of a guest together to `memory_mib`, whatever engine asks.
#[derive(Debug)]
pub struct GuestLimiter {
    most: usize,
    memories: usize,
    tables: usize,
    /// What the growth allowed last added, to take it back if it fails after all.
    last: usize,
    refused: bool,
}

impl GuestLimiter {
    /// One by which nothing has grown yet.
    pub fn new(limits: &Limits) -> Self {
        let most = usize::try_from(limits.memory_mib).unwrap_or(usize::MAX).saturating_mul(MIB);
        Self { most, memories: 0, tables: 0, last: 0, refused: false }
    }

    /// Bytes of linear memory, all memories together.
    pub fn memory_bytes(&self) -> u64 {
        self.memories as u64
    }

    /// Whether a growth was ever refused.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// Whether a memory may grow, in bytes.
    pub fn grow_memory(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let fits = maximum.is_none_or(|most| desired <= most) && self.admit(desired.saturating_sub(current));
        if fits {
            self.memories += self.last;
        }
        fits
    }

    /// Takes the growth of a memory back that was allowed last, and failed after all.
    pub fn memory_failed(&mut self) {
        self.memories = self.memories.saturating_sub(std::mem::take(&mut self.last));
    }

    /// Whether a table may grow, in elements.
    pub fn grow_table(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let added = desired.saturating_sub(current).saturating_mul(ELEMENT);
        let fits = maximum.is_none_or(|most| desired <= most) && self.admit(added);
        if fits {
            self.tables += self.last;
        }
        fits
    }

    /// As [`GuestLimiter::memory_failed`], of a table.
    pub fn table_failed(&mut self) {
        self.tables = self.tables.saturating_sub(std::mem::take(&mut self.last));
    }

    fn admit(&mut self, added: usize) -> bool {
        let total = self.memories.checked_add(self.tables).and_then(|used| used.checked_add(added));
        let fits = total.is_some_and(|total| total <= self.most);
        self.refused |= !fits;
        self.last = if fits { added } else { 0 };
        fits
    }
}

type Growth = Result<bool, LimiterError>;

impl ResourceLimiter for GuestLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Growth {
        Ok(self.grow_memory(current, desired, maximum))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Growth {
        Ok(self.grow_table(current, desired, maximum))
    }

    fn memory_grow_failed(&mut self, _error: &MemoryError) -> Result<(), LimiterError> {
        self.memory_failed();
        Ok(())
    }

    /// wasmi 2.0 does not note where it was when fuel ends within `table.grow`: resumed, it would go on somewhere else in the function,
    /// with whatever its registers hold. An error makes it a trap (`GrowthOperationLimited`, which comes from here alone).
    fn table_grow_failed(&mut self, error: &TableError) -> Result<(), LimiterError> {
        self.table_failed();
        match error {
            TableError::OutOfFuel { .. } => Err(LimiterError::ResourceLimiterDeniedAllocation),
            _ => Ok(()),
        }
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        MOST_TABLES
    }

    fn memories(&self) -> usize {
        MOST_MEMORIES
    }
}

/// Lets a number of events a second pass, and bursts of one second's worth.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_s: u64,
    /// In events times nanoseconds a second, so that nothing is rounded away.
    level: u64,
    seen_ns: u64,
}

impl TokenBucket {
    /// Full at `now_ns`.
    pub(crate) fn new(per_s: u32, now_ns: u64) -> Self {
        let per_s = u64::from(per_s);
        Self { per_s, level: per_s.saturating_mul(NS_PER_S), seen_ns: now_ns }
    }

    /// Takes one event out, if there is one.
    pub(crate) fn take(&mut self, now_ns: u64) -> bool {
        let passed = now_ns.saturating_sub(self.seen_ns);
        self.seen_ns = self.seen_ns.max(now_ns);
        let full = self.per_s.saturating_mul(NS_PER_S);
        self.level = self.level.saturating_add(passed.saturating_mul(self.per_s)).min(full);
        match self.level.checked_sub(NS_PER_S) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_memories_and_tables_together() {
        let mut limiter = GuestLimiter::new(&Limits { memory_mib: 1, ..Limits::default() });
        assert!(limiter.memory_growing(0, MIB / 2, None).unwrap());
        assert!(limiter.memory_growing(0, MIB / 4, None).unwrap());
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(MIB / 4, MIB, None).unwrap());
        assert!(limiter.refused());
        assert!(limiter.table_growing(0, MIB / 4 / ELEMENT, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
        assert!(!limiter.table_growing(0, usize::MAX, None).unwrap());
        assert_eq!(limiter.memory_bytes(), (MIB * 3 / 4) as u64);
    }

    #[test]
    fn takes_a_growth_back_that_failed_after_it_was_allowed() {
        let mut limiter = GuestLimiter::new(&Limits { memory_mib: 1, ..Limits::default() });
        assert!(limiter.memory_growing(0, MIB, None).unwrap());
        limiter.memory_grow_failed(&MemoryError::OutOfSystemMemory).unwrap();
        assert_eq!(limiter.memory_bytes(), 0);
        limiter.memory_grow_failed(&MemoryError::OutOfSystemMemory).unwrap();
        assert!(limiter.memory_growing(0, MIB, None).unwrap());
    }

    #[test]
    fn lets_one_second_pass_at_once_and_then_the_rate() {
        let mut bucket = TokenBucket::new(3, 0);
        assert_eq!((0..9).filter(|_| bucket.take(0)).count(), 3);
        assert!(!bucket.take(NS_PER_S / 3 - 1));
        assert!(bucket.take(NS_PER_S / 3 + 1));
        assert_eq!((0..9).filter(|_| bucket.take(100 * NS_PER_S)).count(), 3);
        assert_eq!((0..9).filter(|_| TokenBucket::new(0, 0).take(u64::MAX)).count(), 0);
    }

    #[test]
    fn looks_at_the_clock_more_often_for_short_deadlines() {
        let slices = |deadline_ms| {
            let mut budget = Budget::frame(&Limits { deadline_ms, ..Limits::default() }, 0);
            (0..9).for_each(|now| budget.look(budget.slice, now));
            budget.slice
        };
        assert_eq!(slices(1), SLICE_PER_DEADLINE_MS);
        assert_eq!(slices(200), MAX_SLICE);
    }

    #[test]
    fn slices_begin_small_and_follow_how_long_they_take() {
        let mut budget = Budget::frame(&Limits::default(), 0);
        assert_eq!(budget.slice, FIRST_SLICE);
        budget.look(FIRST_SLICE, 1);
        assert_eq!((budget.slice, budget.now_ns), (SLICE_GROWTH * FIRST_SLICE, 1));
        budget.look(200_000, 1 + 10 * SLICE_NS);
        assert_eq!(budget.slice, 20_000, "a tenth, since it took ten times as long");
        budget.look(20_000, u64::MAX);
        assert_eq!(budget.slice, MIN_SLICE);
    }
}
