//! The compilers of guests in other languages: installed from package registries into the target folder, without root.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process::{root, run, step, target_dir};

/// A virtual environment of Python, made from a file of requirements.
pub(crate) struct Environment {
    /// Where it lies.
    pub(crate) folder: PathBuf,
    /// The requirements, relative to the root.
    pub(crate) requirements: &'static str,
    /// Who needs it, for messages.
    pub(crate) needed_by: &'static str,
}

impl Environment {
    /// A program of it.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    fn wanted(&self) -> Result<String> {
        let file = root().join(self.requirements);
        fs::read_to_string(&file).with_context(|| format!("{}", file.display()))
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("installed")
    }

    /// Whether it is there as the requirements are now.
    pub(crate) fn is_current(&self) -> bool {
        let same = |wanted| fs::read_to_string(self.stamp()).is_ok_and(|installed| installed == wanted);
        self.program("python3").is_file() && self.wanted().is_ok_and(same)
    }

    /// Makes it, unless it is current.
    pub(crate) fn install(&self) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        step(&format!("installing Python packages for {}", self.needed_by));
        let advice = || {
            format!(
                "{} need the Python packages in {}: check that pip reaches a package index",
                self.needed_by, self.requirements
            )
        };
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&self.folder)).with_context(advice)?;
        let mut pip = Command::new(self.program("python3"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(pip.arg(root().join(self.requirements)).stdout(std::io::stderr())).with_context(advice)?;
        fs::write(self.stamp(), self.wanted()?).with_context(|| format!("{}", self.stamp().display()))
    }
}

/// Zig, Go and AssemblyScript.
pub(crate) struct Languages {
    environment: Environment,
    folder: PathBuf,
}

/// What names the version of AssemblyScript's compiler.
const PACKAGE: &str = "guest-abi/assemblyscript/package.json";

impl Languages {
    /// Those in the target folder, whether they are there or not.
    pub(crate) fn new() -> Self {
        let folder = target_dir().join("tools");
        let environment = Environment {
            folder: folder.join("python"),
            requirements: "guest-abi/tools.txt",
            needed_by: "guests in Zig, C++, Go and AssemblyScript",
        };
        Self { environment, folder }
    }

    /// Where they lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether all of them are there.
    pub(crate) fn are_there(&self) -> bool {
        self.environment.is_current() && self.has_compiler()
    }

    /// Installs what is not there.
    pub(crate) fn install(&self) -> Result<()> {
        self.environment.install()?;
        self.install_compiler()
    }

    /// What the scripts that build guests read: the compilers, and where these keep what they made before.
    pub(crate) fn variables(&self) -> Result<Vec<(&'static str, OsString)>> {
        let program = |name| self.environment.program(name).into_os_string();
        let cache = |name| self.folder.join(name).into_os_string();
        let mut asc = program("node");
        asc.push(" ");
        asc.push(self.compiler());
        Ok(vec![
            ("PATH", self.path()?),
            ("ASC", asc),
            ("ZIG", program("python-zig")),
            ("ZIG_GLOBAL_CACHE_DIR", cache("zig-cache")),
            ("ZIG_LOCAL_CACHE_DIR", cache("zig-cache")),
            ("GO", program("go")),
            ("GOCACHE", cache("go-cache")),
            ("GOPATH", cache("go-path")),
            // Nothing is downloaded: what a guest needs is in this repository.
            ("GOPROXY", "off".into()),
            ("GOTOOLCHAIN", "local".into()),
            ("GOFLAGS", "-mod=mod".into()),
        ])
    }

    /// What names the compilers' versions.
    pub(crate) fn versions(&self) -> Result<String> {
        let package = fs::read_to_string(root().join(PACKAGE)).context(PACKAGE)?;
        Ok(format!("\n{}\n{package}", self.environment.wanted()?))
    }

    fn compiler(&self) -> PathBuf {
        self.folder.join("npm/node_modules/assemblyscript/bin/asc.js")
    }

    fn has_compiler(&self) -> bool {
        let same = |wanted| fs::read_to_string(self.stamp()).is_ok_and(|installed: String| installed == wanted);
        self.compiler().is_file() && fs::read_to_string(root().join(PACKAGE)).is_ok_and(same)
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("npm/installed")
    }

    fn install_compiler(&self) -> Result<()> {
        if self.has_compiler() {
            return Ok(());
        }
        step("installing AssemblyScript's compiler");
        let folder = self.folder.join("npm");
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        let wanted = fs::read_to_string(root().join(PACKAGE)).context(PACKAGE)?;
        write(&folder.join("package.json"), &wanted)?;
        let mut npm = Command::new(self.environment.program("npm"));
        // npm is a script that asks the PATH for node.
        npm.env("PATH", self.path()?).current_dir(&folder);
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]);
        run(npm.stdout(std::io::stderr())).with_context(|| {
            format!("guests in AssemblyScript need what {PACKAGE} names: check that npm reaches a registry")
        })?;
        if !self.compiler().is_file() {
            bail!("npm installed {PACKAGE}, but the compiler is not in {}", folder.display());
        }
        write(&self.stamp(), &wanted)
    }

    fn path(&self) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.environment.folder.join("bin")).chain(std::env::split_paths(&path));
        std::env::join_paths(folders).context("the PATH cannot be extended")
    }
}

fn write(file: &Path, content: &str) -> Result<()> {
    fs::write(file, content).with_context(|| format!("could not write {}", file.display()))
}
