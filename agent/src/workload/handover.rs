//! Decides whether a new set of modules may come up beside the one that runs: pure arithmetic over what each may use.
//!
//! A worker is counted with its limits, not with what it uses at the moment: it may use all of them a moment later, and
//! then the kernel would end somebody. What there is for workers is what the machine has available together with what the
//! workers that run hold of it already, and no more than `[workloads] memory_mib` where that is set. Durable state is the one
//! other thing that two generations cannot both hold ([`keeps_state`]); sensors belong to the agent.
//!
//! Limits: a memory limit of a cgroup around the agent is not seen; `[workloads] memory_mib` is there to tell of it.

use sanderling_protocol::reported::Handover;

/// What is kept free on the machine beside all workers, in bytes.
const KEPT: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

/// The memory that there is for workers, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What the machine can still give away; `None` where it does not say.
    pub available: Option<u64>,
    /// What the workers that run hold already.
    pub resident: u64,
    /// `[workloads] memory_mib`: what all workers together may use.
    pub most: Option<u64>,
}

/// Why a module that keeps state ends before its next version begins, in words.
pub fn keeps_state(module: &str) -> String {
    format!(
        "module {module} keeps state, which one version at a time may change: the next one is loaded beside it and begins when it \
         has ended, with what it kept last"
    )
}

/// How a plan is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staging {
    /// Every module is loaded beside what runs, and kept loaded: they are what is started.
    Kept,
    /// One module after the other is loaded beside what runs, and ended again.
    OneByOne,
    /// There is no room for even one more module: they are loaded when what runs has stopped.
    Skipped,
}

/// How a plan is to be staged and to take the place of what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How it is staged.
    pub staging: Staging,
    /// In which order it takes the place of what runs.
    pub handover: Handover,
}

impl Room {
    /// What workers may hold together; `None` where nothing bounds it.
    fn total(&self) -> Option<u64> {
        let machine = self.available.map(|available| available.saturating_add(self.resident).saturating_sub(KEPT));
        [machine, self.most].into_iter().flatten().min()
    }

    /// Chooses, for modules that may use `wanted` bytes each beside others that may use `running` bytes in all.
    pub fn choose(&self, running: u64, wanted: &[u64]) -> Choice {
        let together = wanted.iter().copied().fold(running, u64::saturating_add);
        let largest = running.saturating_add(wanted.iter().copied().max().unwrap_or(0));
        match self.total() {
            // Where nothing runs, there is nothing to wait for.
            Some(total) if running > 0 && together > total => {
                let staging = if largest <= total { Staging::OneByOne } else { Staging::Skipped };
                let handover = Handover::BreakBeforeMake { why: self.words(running, together, total) };
                Choice { staging, handover }
            }
            _ => Choice { staging: Staging::Kept, handover: Handover::MakeBeforeBreak },
        }
    }

    /// Whether modules that may use `wanted` bytes in all may run beside others that may use `running`.
    pub fn fits(&self, running: u64, wanted: u64) -> bool {
        self.choose(running, &[wanted]).handover == Handover::MakeBeforeBreak
    }

    fn words(&self, running: u64, together: u64, total: u64) -> String {
        let mib = |bytes: u64| bytes.div_ceil(MIB);
        let bound = match self.most {
            Some(most) if most == total => "`[workloads] memory_mib` allows",
            _ => "the machine has",
        };
        format!(
            "what runs may use {} MiB and both together {} MiB, and {bound} {} MiB for modules; lower `memory_mib` or \
             `native_memory_mib` of the modules to what they need, or give the device more memory",
            mib(running),
            mib(together),
            total / MIB,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = MIB;

    fn machine(available: u64, resident: u64) -> Room {
        Room { available: Some(available * M), resident: resident * M, most: None }
    }

    fn budget(most: u64) -> Room {
        Room { available: None, resident: 0, most: Some(most * M) }
    }

    fn why(choice: &Choice) -> &str {
        match &choice.handover {
            Handover::BreakBeforeMake { why } => why,
            Handover::MakeBeforeBreak => "",
        }
    }

    #[test]
    fn makes_before_it_breaks_where_both_fit_with_all_that_they_may_use() {
        // 300 available, 20 of the 160 that may be used are in use: 320 for workers, but for what is kept.
        let both = machine(300 + 16, 20).choose(160 * M, &[80 * M, 80 * M]);
        assert_eq!(both, Choice { staging: Staging::Kept, handover: Handover::MakeBeforeBreak });
        let short = machine(299 + 16, 20).choose(160 * M, &[80 * M, 80 * M]);
        assert!(why(&short).contains("160 MiB") && why(&short).contains("320 MiB"), "{short:?}");
        assert!(why(&short).contains("the machine has 319 MiB"), "{short:?}");
    }

    #[test]
    fn a_budget_bounds_what_the_machine_has() {
        assert!(budget(160).fits(80 * M, 80 * M));
        assert!(!budget(159).fits(80 * M, 80 * M));
        let both = Room { most: Some(100 * M), ..machine(1000, 0) };
        assert!(!both.fits(80 * M, 80 * M));
        assert!(why(&both.choose(80 * M, &[80 * M])).contains("`[workloads] memory_mib` allows 100 MiB"));
        let small = Room { most: Some(1000 * M), ..machine(100, 0) };
        assert!(why(&small.choose(80 * M, &[80 * M])).contains("the machine has 84 MiB"));
    }

    #[test]
    fn what_does_not_fit_together_is_staged_one_by_one_as_long_as_that_fits() {
        let wanted = [40 * M, 80 * M, 10 * M];
        assert_eq!(budget(210).choose(80 * M, &wanted).staging, Staging::Kept);
        assert_eq!(budget(209).choose(80 * M, &wanted).staging, Staging::OneByOne);
        assert_eq!(budget(160).choose(80 * M, &wanted).staging, Staging::OneByOne);
        assert_eq!(budget(159).choose(80 * M, &wanted).staging, Staging::Skipped);
    }

    #[test]
    fn the_first_of_all_is_started_whatever_there_is() {
        assert_eq!(budget(1).choose(0, &[80 * M]).staging, Staging::Kept);
        assert!(machine(0, 0).fits(0, u64::MAX));
    }

    #[test]
    fn a_deployment_of_nothing_fits_if_what_runs_does() {
        assert_eq!(budget(80).choose(80 * M, &[]).handover, Handover::MakeBeforeBreak);
    }

    #[test]
    fn a_machine_that_does_not_say_is_taken_to_have_enough() {
        let unknown = Room { available: None, resident: 0, most: None };
        assert!(unknown.fits(u64::MAX, u64::MAX));
    }
}
