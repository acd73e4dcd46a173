//! Guests that are not in Rust: built by the script beside each, with compilers that may not be there, and only when something changed.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    process::{find, root, run, step},
    tools::Languages,
};

/// Who compiles a guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compiler {
    /// Debian's clang.
    Clang,
    /// What [`Languages`] installs.
    Languages,
}

/// A guest that a script builds.
struct Guest {
    name: &'static str,
    compiler: Compiler,
    /// The script, and its arguments before the output.
    script: &'static [&'static str],
    /// Files and folders that it is made of, besides the script.
    sources: &'static [&'static str],
}

const CONFORMANCE: &str = "guest-abi/conformance/build.sh";
const C: &str = "guest-abi/include";
const ASSEMBLYSCRIPT: &str = "guest-abi/assemblyscript";
const ZIG: &str = "guest-abi/zig";
const GO: &str = "guest-abi/go";

const GUESTS: &[Guest] = &[
    Guest {
        name: "vibration",
        compiler: Compiler::Clang,
        script: &["modules/vibration/build.sh"],
        sources: &[C, "modules/vibration/vibration.c"],
    },
    Guest {
        name: "csv-filter",
        compiler: Compiler::Clang,
        script: &["modules/csv-filter/build.sh"],
        sources: &["modules/csv-filter"],
    },
    Guest {
        name: "conformance-c",
        compiler: Compiler::Clang,
        script: &[CONFORMANCE, "c"],
        sources: &[C, "guest-abi/conformance/conformance.c"],
    },
    Guest {
        name: "conformance-cpp",
        compiler: Compiler::Languages,
        script: &[CONFORMANCE, "cpp"],
        sources: &[C, "guest-abi/conformance/conformance.cpp"],
    },
    Guest {
        name: "conformance-assemblyscript",
        compiler: Compiler::Languages,
        script: &[CONFORMANCE, "assemblyscript"],
        sources: &[ASSEMBLYSCRIPT, "guest-abi/conformance/conformance.ts"],
    },
    Guest {
        name: "conformance-zig",
        compiler: Compiler::Languages,
        script: &[CONFORMANCE, "zig"],
        sources: &[ZIG, "guest-abi/conformance/conformance.zig"],
    },
    Guest {
        name: "conformance-go",
        compiler: Compiler::Languages,
        script: &[CONFORMANCE, "go"],
        sources: &[GO, "guest-abi/conformance/go"],
    },
    Guest {
        name: "deadband",
        compiler: Compiler::Languages,
        script: &["modules/deadband/build.sh"],
        sources: &[ASSEMBLYSCRIPT, "modules/deadband"],
    },
    Guest {
        name: "aggregate",
        compiler: Compiler::Languages,
        script: &["modules/aggregate/build.sh"],
        sources: &[ZIG, "modules/aggregate"],
    },
    Guest {
        name: "motion",
        compiler: Compiler::Languages,
        script: &["modules/motion/build.sh"],
        sources: &[C, "modules/motion"],
    },
    Guest {
        name: "text-match",
        compiler: Compiler::Languages,
        script: &["modules/text-match/build.sh"],
        sources: &[GO, "modules/text-match"],
    },
];

/// Builds those whose compilers are there into `folder`.
pub(crate) fn build(folder: &Path) -> Result<()> {
    let languages = Languages::new();
    let clang = find("clang-14").is_some() && find("wasm-ld-14").is_some();
    let others = languages.are_there();
    for guest in GUESTS {
        let possible = match guest.compiler {
            Compiler::Clang => clang,
            Compiler::Languages => others,
        };
        if possible {
            guest.build(folder, &languages).with_context(|| format!("the guest {} does not build", guest.name))?;
        }
    }
    Ok(())
}

impl Guest {
    /// Runs the script, unless all that it is made of is as it was.
    fn build(&self, folder: &Path, languages: &Languages) -> Result<()> {
        let (output, stamp) =
            (folder.join(format!("{}.wasm", self.name)), folder.join(format!("{}.made-of", self.name)));
        let made_of = self.made_of(languages)?;
        if output.is_file() && fs::read_to_string(&stamp).is_ok_and(|before| before == made_of) {
            return Ok(());
        }
        step(&format!("building {}", self.name));
        let (script, arguments) = self.script.split_first().context("a guest without a script")?;
        let mut command = Command::new(root().join(script));
        run(command.args(arguments).arg(&output).envs(languages.variables()?).stdout(std::io::stderr()))?;
        fs::write(&stamp, made_of).with_context(|| format!("could not write {}", stamp.display()))
    }

    /// The script, its arguments, the versions of the compilers and all sources, one after the other.
    fn made_of(&self, languages: &Languages) -> Result<String> {
        let mut files = Vec::new();
        for source in self.script.iter().take(1).chain(self.sources) {
            list(&root().join(source), &mut files)?;
        }
        let mut text = self.script.join(" ");
        if self.compiler == Compiler::Languages {
            text.push_str(&languages.versions()?);
        }
        for file in files {
            let content = fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
            let _ = write!(text, "\n== {}\n{content}", file.display());
        }
        Ok(text)
    }
}

/// The file, or all files of the folder in the order of their names.
fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("could not look at {}", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort_unstable();
    paths.iter().try_for_each(|path| list(path, files))
}
