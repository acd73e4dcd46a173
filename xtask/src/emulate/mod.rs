//! `cargo xtask emulate <target>`: the tests of protocol, runtime and agent as programs of another processor, under qemu's user emulation.
//!
//! What cannot work there is in [`skipped`], each with its reason; an entry that names no test fails the run. The programs are linked to be
//! started with the libraries of Debian's cross compilers, so that the worker, which is started without environment, finds them too. A program
//! that starts another needs a kernel that knows what to do with it (binfmt_misc); without that the tests that do so are left out, and the run says so.

mod bounded;
mod skipped;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    clock::{Deadline, timed},
    cross::{
        self,
        targets::{self, Libraries, Target},
    },
    process::{cargo, find, step},
    setup,
    test::Counts,
};
use bounded::End;
use skipped::{EVERY, On, SKIPPED, Skipped};

/// The targets whose tests are run: those of the gateways that are there.
const TARGETS: [&str; 2] = ["aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];
const PACKAGES: [&str; 3] = ["sanderling-protocol", "sanderling-runtime", "sanderling-agent"];
/// Proofs and properties are run at length on the host; here it is seen whether they hold at all.
const FEWER: [(&str, &str); 2] = [("PROPTEST_CASES", "16"), ("SANDERLING_PROOF_CASES", "30")];

#[derive(clap::Args)]
#[command(after_help = "\
It installs what it needs (what the tests need on any machine, Debian's cross compiler, qemu-user-static, the Rust target), builds in the
dev profile, and ends with `N passed, N failed`. Which tests are left out, and why: xtask/src/emulate/skipped.rs")]
pub(crate) struct Arguments {
    /// Whose programs are emulated.
    #[arg(value_parser = targets::parser(|target| TARGETS.contains(&target.triple)))]
    target: String,
    /// Only tests whose name contains this; what they print is shown.
    filter: Option<String>,
    /// After so many minutes it stops, whatever it is doing, and fails.
    #[arg(long, default_value = "40")]
    minutes: u64,
}

/// A test program, and the tests in it.
struct Program {
    /// The crate's, or the file's.
    name: String,
    file: PathBuf,
    /// The folder of its package, in which tests look for their files.
    folder: PathBuf,
    tests: BTreeSet<String>,
}

/// What of the machines, the emulated one and ours, decides about tests.
#[derive(Clone, Copy)]
struct Machine {
    /// Whether addresses have 32 bits.
    narrow: bool,
    /// Whether a program may start another of its kind.
    starts: bool,
}

/// How programs are run.
struct Emulation {
    target: &'static Target,
    emulator: PathBuf,
    guests: PathBuf,
    machine: Machine,
    deadline: Deadline,
    minutes: u64,
}

/// Builds the tests, runs them, and ends with `N passed, N failed`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let deadline = Deadline::after(Duration::from_secs(arguments.minutes.saturating_mul(60)));
    let target = targets::find(&arguments.target).context("the target is one of the list")?;
    let libraries = target.libraries.as_ref().context("a target whose tests are run has libraries")?;
    setup::for_building()?;
    setup::for_testing()?;
    cross::prepare(target, false)?;
    if find(target.emulator).is_none() {
        setup::install(&["qemu-user-static"])?;
    }
    let emulator = find(target.emulator).with_context(|| format!("qemu-user-static brought no {}", target.emulator))?;
    let guests = build::guests()?;
    let machine = Machine { narrow: target.triple.starts_with("arm"), starts: starts_programs(target) };
    let emulation = Emulation { target, emulator, guests, machine, deadline, minutes: arguments.minutes };
    let programs = emulation.programs(libraries)?;
    rotten(&programs, SKIPPED)?;
    let mut counts = Counts::default();
    for program in &programs {
        emulation.test(program, arguments.filter.as_deref(), &mut counts)?;
    }
    tell_skipped(&programs, machine);
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed > 0 || counts.passed == 0 {
        bail!("tests failed under {}; their output stands above", target.emulator);
    }
    Ok(())
}

/// Whether the kernel starts programs of the target by itself.
fn starts_programs(target: &Target) -> bool {
    let name = target.emulator.trim_end_matches("-static");
    let registered = Path::new("/proc/sys/fs/binfmt_misc").join(name);
    let starts = std::fs::read_to_string(registered).is_ok_and(|text| text.starts_with("enabled"));
    if !starts {
        step(&format!(
            "this kernel starts no programs for {name}: tests that start one are left out. Have binfmt_misc mounted and qemu-user-static \
             registered (`mount -t binfmt_misc none /proc/sys/fs/binfmt_misc`, then `dpkg-reconfigure qemu-user-static`)"
        ));
    }
    starts
}

impl Emulation {
    /// Builds all test programs, and asks each for its tests.
    fn programs(&self, libraries: &Libraries) -> Result<Vec<Program>> {
        step(&format!("building the tests for {} (the first time takes several minutes)", self.target.triple));
        let mut command = cargo();
        command.args(["test", "--no-run", "--all-features", "--message-format=json-render-diagnostics"]);
        command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
        self.target.set(&mut command)?;
        let loader = Path::new(libraries.root).join(libraries.loader);
        let folder = loader.parent().unwrap_or(&loader).display();
        command.env(
            format!("CARGO_TARGET_{}_RUSTFLAGS", self.target.triple.replace('-', "_").to_uppercase()),
            format!("-Clink-arg=-Wl,--dynamic-linker={} -Clink-arg=-Wl,-rpath,{folder}", loader.display()),
        );
        let mut programs = Vec::new();
        let end = bounded::run(&mut command, self.deadline, |line| programs.extend(artifact(line)))?;
        self.succeeded(end, "cargo test --no-run")?;
        for program in &mut programs {
            self.list(program)?;
        }
        Ok(programs)
    }

    /// Asks a program for its tests.
    fn list(&self, program: &mut Program) -> Result<()> {
        let mut command = self.command(program);
        command.args(["--list", "--format", "terse"]);
        let end = bounded::run(&mut command, self.deadline, |line| {
            program.tests.extend(line.strip_suffix(": test").map(str::to_owned));
        })?;
        self.succeeded(end, &format!("{} --list", program.name))
    }

    /// A program under emulation.
    fn command(&self, program: &Program) -> Command {
        let mut command = Command::new(&self.emulator);
        command.args(["-cpu", self.target.processor]).arg(&program.file).current_dir(&program.folder);
        command.env("SANDERLING_GUESTS", &self.guests).env("SANDERLING_PYTHON", setup::python());
        for (name, value) in FEWER {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        command
    }

    fn succeeded(&self, end: End, what: &str) -> Result<()> {
        match end {
            End::Status(status) if status.success() => Ok(()),
            End::Status(status) => bail!("{what} ended with {status}"),
            End::Ended => Err(self.over(what)),
        }
    }

    fn over(&self, what: &str) -> anyhow::Error {
        let minutes = self.minutes;
        anyhow::anyhow!(
            "{what} was ended: {minutes} minutes were over. `--minutes` gives it more; a build that goes on from here takes less"
        )
    }

    /// Runs a program's tests and counts them.
    fn test(&self, program: &Program, filter: Option<&str>, counts: &mut Counts) -> Result<()> {
        let left_out = left_out(program, SKIPPED, self.machine);
        let wanted =
            |test: &&String| !left_out.contains(test.as_str()) && filter.is_none_or(|part| test.contains(part));
        let wanted: Vec<&String> = program.tests.iter().filter(wanted).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        step(&format!("{}: {} tests, {} left out", program.name, wanted.len(), left_out.len()));
        let mut command = self.command(program);
        command.arg("--exact");
        match filter {
            // Few enough for what they print to be read.
            Some(_) => command.arg("--nocapture").args(wanted),
            None => command.args(left_out.iter().flat_map(|test| ["--skip", test])),
        };
        let mut own = Counts::default();
        let (end, time) = timed(|| {
            bounded::run(&mut command, self.deadline, |line| {
                println!("{line}");
                own.add(line);
            })
        });
        match end? {
            End::Ended => return Err(self.over(&program.name)),
            // A program that was killed prints no result of its own.
            End::Status(status) if !status.success() && own.failed == 0 => own.failed = 1,
            End::Status(_) => {}
        }
        step(&format!("{}: {} passed, {} failed in {} s", program.name, own.passed, own.failed, time.as_secs()));
        counts.passed += own.passed;
        counts.failed += own.failed;
        Ok(())
    }
}

/// The test program that a message of cargo tells of.
fn artifact(message: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_test = message.get("reason")? == "compiler-artifact" && message.get("profile")?.get("test")? == true;
    let text = |value: Option<&serde_json::Value>| value.and_then(serde_json::Value::as_str).map(str::to_owned);
    let folder = PathBuf::from(text(message.get("manifest_path"))?).parent()?.to_path_buf();
    let name = text(message.get("target")?.get("name"))?;
    let file = text(message.get("executable"))?.into();
    is_test.then_some(Program { name, file, folder, tests: BTreeSet::new() })
}

/// Whether an entry counts here.
fn applies(entry: &Skipped, machine: Machine) -> bool {
    match entry.on {
        On::All => true,
        On::Narrow => machine.narrow,
        On::Unstarted => !machine.starts,
    }
}

/// The tests of a program that are left out.
fn left_out<'a>(program: &'a Program, entries: &'a [Skipped], machine: Machine) -> BTreeSet<&'a str> {
    let entries = entries.iter().filter(|entry| applies(entry, machine)).flat_map(|entry| entry.tests);
    let named: BTreeSet<&str> = entries.filter(|(of, _)| *of == program.name).map(|(_, test)| *test).collect();
    let is_named = |test: &&str| named.contains(EVERY) || named.contains(test);
    program.tests.iter().map(String::as_str).filter(is_named).collect()
}

/// Fails where an entry names a test that is not there, so that the list does not rot.
fn rotten(programs: &[Program], entries: &[Skipped]) -> Result<()> {
    let has = |program: &Program, test: &str| match test {
        EVERY => !program.tests.is_empty(),
        test => program.tests.contains(test),
    };
    let is_there =
        |(of, test): &&(&str, &str)| programs.iter().any(|program| program.name == *of && has(program, test));
    let gone: Vec<String> = entries
        .iter()
        .flat_map(|entry| entry.tests)
        .filter(|named| !is_there(named))
        .map(|(of, test)| format!("{test} of {of}"))
        .collect();
    if !gone.is_empty() {
        bail!(
            "xtask/src/emulate/skipped.rs names tests that are not there; take them out, or name them anew: {}",
            gone.join(", ")
        );
    }
    Ok(())
}

/// Says how many tests were left out, and why.
fn tell_skipped(programs: &[Program], machine: Machine) {
    for entry in SKIPPED.iter().filter(|entry| applies(entry, machine)) {
        let count: usize =
            programs.iter().map(|program| left_out(program, std::slice::from_ref(entry), machine).len()).sum();
        println!("left out: {count}, because {}", entry.why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, tests: &[&str]) -> Program {
        let tests = tests.iter().map(|test| (*test).to_owned()).collect();
        Program { name: name.to_owned(), file: PathBuf::new(), folder: PathBuf::new(), tests }
    }

    #[test]
    fn an_entry_that_names_no_test_fails_the_run() {
        let programs = [program("link", &["a::b", "c"]), program("worker", &["d"])];
        let entry = |tests| [Skipped { why: "it has to", on: On::All, tests }];
        assert!(rotten(&programs, &entry(&[("link", "a::b"), ("worker", "d")])).is_ok());
        for gone in [&[("link", "b")], &[("worker", "c")], &[("sparkplug", "c")], &[("sparkplug", EVERY)]] {
            let error = rotten(&programs, &entry(gone)).unwrap_err().to_string();
            assert!(error.contains(&format!("{} of {}", gone[0].1, gone[0].0)), "{error}");
        }
    }

    #[test]
    fn a_test_or_a_whole_program_is_left_out_where_its_entry_counts() {
        let entry = |on, tests| [Skipped { why: "it has to", on, tests }];
        let usual = Machine { narrow: false, starts: true };
        let (link, worker) = (program("link", &["a", "b"]), program("worker", &["a"]));
        let all = entry(On::All, &[("link", "a")]);
        assert_eq!(left_out(&link, &all, usual), BTreeSet::from(["a"]));
        assert!(left_out(&worker, &all, usual).is_empty());
        for (on, other) in
            [(On::Narrow, Machine { narrow: true, ..usual }), (On::Unstarted, Machine { starts: false, ..usual })]
        {
            let whole = entry(on, &[("link", EVERY)]);
            assert!(left_out(&link, &whole, usual).is_empty());
            assert_eq!(left_out(&link, &whole, other), BTreeSet::from(["a", "b"]));
        }
    }

    #[test]
    fn test_programs_are_found_in_what_cargo_tells() {
        let told = |reason: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"{reason}","manifest_path":"/a/agent/Cargo.toml","target":{{"name":"link"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let found = artifact(&told("compiler-artifact", true, "\"/t/link-1\"")).unwrap();
        assert_eq!((&*found.name, found.file, found.folder), ("link", "/t/link-1".into(), "/a/agent".into()));
        assert!(artifact(&told("compiler-artifact", false, "\"/t/link\"")).is_none(), "a program that is not a test");
        assert!(artifact(&told("compiler-artifact", true, "null")).is_none(), "a library");
        assert!(artifact(&told("build-finished", true, "\"/t/link-1\"")).is_none());
        assert!(artifact("not JSON").is_none());
    }

    #[test]
    fn each_entry_has_a_reason_and_no_test_is_named_twice() {
        let mut seen = BTreeSet::new();
        for entry in SKIPPED {
            assert!(entry.why.len() > 20 && !entry.tests.is_empty(), "{}", entry.why);
            for named in entry.tests {
                assert!(seen.insert(named), "{named:?} is named twice");
            }
        }
    }
}
