//! What the tool `cross` is told, held to the table of targets: the same targets, packages and environment, one recipe for each target.

use std::{collections::BTreeSet, fs};

use super::targets::{Linker, TARGETS, Target, zig};
use crate::process::root;

/// What building needs besides the compiler of the target: one for what runs while it builds.
const FOR_ALL: [&str; 2] = ["gcc", "libc6-dev"];

fn read(path: &str) -> String {
    let file = root().join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The path of a target's recipe, from the root.
fn recipe(target: &Target) -> String {
    format!("cross/{}.Dockerfile", target.triple)
}

/// What of a recipe stands behind `instruction`, with lines that go on put together.
fn instructions(recipe: &str, instruction: &str) -> Vec<String> {
    let whole = recipe.replace("\\\n", " ");
    let lines = whole.lines().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn cross_knows_the_same_targets_each_with_a_recipe_of_its_own() {
    let mut wanted = String::new();
    for target in &TARGETS {
        wanted += &format!("[target.{}]\ndockerfile = \"{}\"\n", target.triple, recipe(target));
    }
    let config = read("cross/Cross.toml");
    let config: String = config.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).fold(
        String::new(),
        |mut all, line| {
            all += line;
            all.push('\n');
            all
        },
    );
    assert_eq!(config, wanted, "cross/Cross.toml");
    let there: BTreeSet<String> = fs::read_dir(root().join("cross"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".Dockerfile").map(str::to_owned))
        .collect();
    assert_eq!(there, TARGETS.iter().map(|target| target.triple.to_owned()).collect());
}

#[test]
fn a_recipe_installs_the_packages_and_sets_the_environment_of_its_target() {
    for target in &TARGETS {
        let path = recipe(target);
        let recipe = read(&path);
        assert_eq!(instructions(&recipe, "FROM"), ["debian:bookworm-slim"], "{path}");
        let [run] = &instructions(&recipe, "RUN")[..] else { panic!("{path}: one RUN") };
        let install = "apt-get install --assume-yes --no-install-recommends ";
        let packages = run.split(" && ").find_map(|step| step.strip_prefix(install)).unwrap_or_default();
        let mut wanted: BTreeSet<&str> = FOR_ALL.iter().chain(target.packages).copied().collect();
        if target.linker == Linker::Armv6 {
            wanted.insert("python3-pip");
            let copied = instructions(&recipe, "COPY");
            assert!(
                copied.iter().any(|copy| copy.starts_with("cross/armv6-gcc /usr/local/bin/")),
                "{path}: {copied:?}"
            );
            assert!(copied.contains(&format!("{} /tmp/requirements.txt", zig().requirements)), "{path}: {copied:?}");
            assert!(run.ends_with("-r /tmp/requirements.txt"), "{path}: {run}");
        }
        assert_eq!(packages.split(' ').collect::<BTreeSet<_>>(), wanted, "{path}");
        let environment = instructions(&recipe, "ENV").join(" ");
        let wanted: Vec<String> = target.environment().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(environment, wanted.join(" "), "{path}");
    }
}

#[test]
fn zig_is_the_same_for_programs_as_for_guests() {
    let version = |path: &str| read(path).lines().find(|line| line.starts_with("ziglang==")).map(str::to_owned);
    assert_eq!(version(zig().requirements), version("guest-abi/tools.txt"));
    assert!(version(zig().requirements).is_some());
}

#[test]
fn the_table_has_no_target_twice_and_a_compiler_that_one_of_its_packages_brings() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.triple).collect();
    assert_eq!(names.len(), TARGETS.len());
    for target in &TARGETS {
        let prefix = target.compiler.strip_suffix("-gcc").unwrap();
        assert!(target.packages.contains(&&*format!("gcc-{prefix}")), "{}", target.triple);
        if let Some(libraries) = &target.libraries {
            assert_eq!(libraries.root, format!("/usr/{prefix}"), "{}", target.triple);
        }
    }
}
