//! The tests that are left out under emulation, each with the reason. An entry that names no test fails the run.

/// Where an entry counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// Under emulation.
    All,
    /// Where a 32-bit machine is emulated.
    Narrow,
    /// Where the kernel starts no programs of the target by itself.
    Unstarted,
}

/// Tests that are left out for one reason.
pub(super) struct Skipped {
    /// Goes on behind "because".
    pub(super) why: &'static str,
    pub(super) on: On,
    /// The program (a crate's name, or that of a file in `tests/`), and the test in it, or [`EVERY`] one.
    pub(super) tests: &'static [(&'static str, &'static str)],
}

/// Stands for all tests of a program.
pub(super) const EVERY: &str = "*";

pub(super) const SKIPPED: &[Skipped] = &[
    Skipped {
        why: "qemu's user emulation puts no filter of system calls in force",
        on: On::All,
        tests: &[
            ("sanderling-worker", "seccomp::tests::what_is_not_allowed_ends_the_process"),
            ("worker", "a_worker_is_confined_before_it_is_ready"),
        ],
    },
    Skipped {
        why: "qemu 7.2 does not know the call by which the rate of a serial line is set (TCGETS2)",
        on: On::All,
        tests: &[
            ("sanderling_agent", "sensors::serial::tests::a_device_that_is_unplugged_and_plugged_in_again_goes_on"),
            ("sanderling_agent", "sensors::serial::tests::gives_the_lines_of_a_device"),
            ("sanderling_agent", "sensors::serial::tests::refuses_lines_that_are_too_long_and_goes_on"),
            ("sanderling_agent", "sensors::serial::tests::says_what_is_wrong_with_a_device"),
            ("sanderling_agent", "sensors::serial::tests::steady_lines_use_the_same_memory_again"),
            ("sensor_peers", "modbus_rtu_reads_a_device_over_a_serial_line"),
        ],
    },
    Skipped {
        why: "qemu takes all of a 32-bit address space beforehand, so that the kernel says nothing of the program's own part",
        on: On::Narrow,
        tests: &[("sanderling-worker", "confine::tests::the_kernel_says_what_address_space_is_in_use")],
    },
    Skipped {
        why: "a process that qemu makes by vfork shares no memory, so that why a command does not start is not told",
        on: On::All,
        tests: &[("sanderling_agent", "sensors::process::tests::says_what_keeps_a_command_from_starting")],
    },
    Skipped {
        why: "they go through thousands of histories on a simulated disk, which takes ten minutes and more each; no processor makes them other",
        on: On::All,
        tests: &[
            (
                "sanderling_agent",
                "driver::keeper::durability::faults::a_cache_that_is_believed_after_a_failed_sync_is_found_out",
            ),
            (
                "sanderling_agent",
                "outbox::cost::tests::write_amplification_stays_within_three_at_a_hundred_records_where_rows_of_redb_do_not",
            ),
            ("sanderling_agent", "outbox::tests::a_frame_s_records_and_state_are_there_together_at_every_cut"),
            ("sanderling_agent", "outbox::tests::cuts::a_cut_at_any_change_leaves_each_batch_whole_or_not_at_all"),
        ],
    },
    Skipped {
        why: "they start a program of the target, which this kernel does not (binfmt_misc)",
        on: On::Unstarted,
        tests: &[("worker", EVERY), ("journal", EVERY)],
    },
];
