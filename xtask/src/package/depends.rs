//! Whether a package depends on what its programs need: dpkg-shlibdeps cannot say it of another architecture's.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process::output;

/// A library that programs may be linked with, the package that brings it, and the prefix of its versions of symbols.
struct Library {
    package: &'static str,
    files: &'static [&'static str],
    symbols: &'static str,
}

const LIBRARIES: [Library; 2] = [
    Library {
        package: "libc6",
        files: &["libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "ld-linux-armhf.so.3"],
        symbols: "GLIBC_",
    },
    Library { package: "libgcc-s1", files: &["libgcc_s.so.1"], symbols: "GCC_" },
];

/// Sees that the package depends on each library that a program of it needs, in the version of the newest symbol of it.
pub(super) fn check(package: &Path, programs: impl Iterator<Item = PathBuf>) -> Result<()> {
    let depends = output(Command::new("dpkg-deb").arg("--field").arg(package).arg("Depends"))?;
    for program in programs {
        let read = output(Command::new("readelf").args(["--wide", "--dynamic", "--version-info"]).arg(&program))?;
        holds(&depends, &read).with_context(|| format!("{}: {}", package.display(), program.display()))?;
    }
    Ok(())
}

/// Holds the field `Depends` to what `readelf --dynamic --version-info` says of a program.
fn holds(depends: &str, read: &str) -> Result<()> {
    for file in needed(read) {
        let Some(library) = LIBRARIES.iter().find(|library| library.files.contains(&file)) else {
            bail!("needs {file}, of a package that xtask/src/package/depends.rs does not know");
        };
        let wanted = newest(read, library.symbols);
        let Some(declared) = declared(depends, library.package) else {
            bail!("needs {file}, and the package does not depend on {}", library.package);
        };
        if declared < wanted {
            bail!(
                "has symbols of {} {}; the package depends on {} or newer (metadata.deb in Cargo.toml)",
                library.package,
                dotted(&wanted),
                dotted(&declared)
            );
        }
    }
    Ok(())
}

/// The files of the lines `… (NEEDED)  Shared library: [libc.so.6]`.
fn needed(read: &str) -> impl Iterator<Item = &str> {
    let lines = read.lines().filter(|line| line.contains("(NEEDED)"));
    lines.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0))
}

/// The newest version of the lines `…  Name: GLIBC_2.35  Flags: none  Version: 4`.
fn newest(read: &str, prefix: &str) -> Vec<u32> {
    let names = read.split_whitespace().filter_map(|word| word.strip_prefix(prefix));
    names.filter_map(version).max().unwrap_or_default()
}

/// The version of `package (>= 2.35)` in a field.
fn declared(depends: &str, package: &str) -> Option<Vec<u32>> {
    let relation = depends.split(',').map(str::trim).find(|relation| relation.split(' ').next() == Some(package))?;
    let text = relation.split_once(">=").map_or("0", |(_, text)| text.trim_matches([' ', ')', '\n']));
    version(text)
}

/// The parts of a version, without zeros at the end: 4.2.0 is 4.2.
fn version(text: &str) -> Option<Vec<u32>> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    while parts.last() == Some(&0) {
        parts.pop();
    }
    Some(parts)
}

fn dotted(version: &[u32]) -> String {
    version.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "\
 0x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
Version needs section '.gnu.version_r' contains 2 entries:
  0x0010:   Name: GCC_4.2.0  Flags: none  Version: 9
  0x0060:   Name: GLIBC_2.9  Flags: none  Version: 3
  0x0060:   Name: GLIBC_2.34  Flags: none  Version: 3
";

    #[test]
    fn the_newest_symbol_decides() {
        assert!(holds("libc6 (>= 2.34), libgcc-s1 (>= 4.2)", READ).is_ok());
        assert!(holds("libc6 (>= 2.36), libgcc-s1 (>= 4.2), systemd", READ).is_ok());
        let error = holds("libc6 (>= 2.33), libgcc-s1 (>= 4.2)", READ).unwrap_err().to_string();
        assert!(error.contains("libc6 2.34") && error.contains("2.33"), "{error}");
        assert!(holds("libc6 (>= 2.9), libgcc-s1 (>= 4.2)", READ).is_err());
    }

    #[test]
    fn each_library_has_to_be_declared() {
        assert!(holds("libc6 (>= 2.34)", READ).is_err());
        assert!(holds("libc6, libgcc-s1 (>= 4.2)", READ).is_err());
        assert!(holds("libc6 (>= 2.34), libgcc-s1", &READ.replace("libgcc_s.so.1", "libssl.so.3")).is_err());
    }
}
