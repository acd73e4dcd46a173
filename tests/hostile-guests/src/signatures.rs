//! The host functions that there are, as the runtime itself tells: a guest that imports what there is not is told what there is, and one
//! that imports it with another type is told the type. So nothing that is linked can be forgotten here.

use std::sync::Arc;

use sanderling_runtime::{FakeClock, Guest, LoadSpec, Ports, Recorder, SeededRandom};

/// The modules that guests may import from.
pub const MODULES: [&str; 3] = ["sanderling_v1", "wasi_ephemeral_nn", "wasi_snapshot_preview1"];

/// A host function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Where it is imported from.
    pub module: &'static str,
    /// Its name.
    pub name: String,
    /// The types of its parameters, as text has them.
    pub params: Vec<String>,
    /// The types of its results.
    pub results: Vec<String>,
}

/// All host functions.
pub fn all() -> Vec<Signature> {
    MODULES.into_iter().flat_map(|module| names(module).into_iter().map(move |name| signature(module, &name))).collect()
}

fn names(module: &str) -> Vec<String> {
    let said = refusal(&format!("(module (import \"{module}\" \"?\" (func)))"));
    let (_, listed) = said.split_once(" has: ").unwrap_or_else(|| panic!("{module}: {said}"));
    listed.split(", ").map(str::to_owned).collect()
}

fn signature(module: &'static str, name: &str) -> Signature {
    // No function of ours returns three numbers.
    let said = refusal(&format!("(module (import \"{module}\" \"{name}\" (func (result f32 f32 f32))))"));
    let (_, host) = said.split_once("this host has it as").unwrap_or_else(|| panic!("{module}.{name}: {said}"));
    let types = |what: &str| {
        let (_, rest) = host.split_once(what).unwrap_or_else(|| panic!("{module}.{name}: {said}"));
        let listed = rest.split(']').next().unwrap_or_default();
        listed.split(", ").filter(|kind| !kind.is_empty()).map(str::to_lowercase).collect()
    };
    Signature { module, name: name.to_owned(), params: types("params: ["), results: types("results: [") }
}

fn refusal(text: &str) -> String {
    let ports = Ports {
        clock: Arc::new(FakeClock::default()),
        output: Box::new(Recorder::default()),
        random: Box::new(SeededRandom::new(1)),
        stop: Box::new(|| false),
    };
    let module = wat::parse_str(text).unwrap();
    Guest::load(LoadSpec { module: &module, ..LoadSpec::default() }, ports).map(|_| ()).unwrap_err().message
}
