//! Debug information for a module that was stripped, from another file.
//!
//! Places in DWARF are offsets into the code section. So a file serves for every module whose code is the same to the byte, and for no
//! other. The module stays what it is; only sections that say nothing to an engine are taken over.

use sanderling_runtime::sections::{CODE, CUSTOM, HEAD, Sections, custom_name, put_section};
use thiserror::Error;

/// Why a file does not serve.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CompanionError {
    /// It is no module.
    #[error(
        "the file with the debug information is not a WebAssembly module; name the .wasm file that was linked before it was stripped"
    )]
    NotWasm,
    /// Its code is not that of the module.
    #[error(
        "the file with the debug information has other code than the module that was run, so its lines would be wrong; name the very file that \
         the module was stripped from, or build the same source with the same compiler and options and leave out the stripping alone"
    )]
    OtherCode,
    /// It has no names and no lines either.
    #[error(
        "the file with the debug information has none: it was stripped as well; build it with debug information (-g)"
    )]
    Stripped,
}

/// The module with the names and the DWARF of `companion`.
pub(super) fn with_debug_info(module: &[u8], companion: &[u8]) -> Result<Vec<u8>, CompanionError> {
    let taken_apart = |bytes| Sections::of(bytes).collect::<Option<Vec<_>>>().ok_or(CompanionError::NotWasm);
    let head = module.get(..HEAD).ok_or(CompanionError::NotWasm)?;
    if companion.get(..HEAD) != Some(head) {
        return Err(CompanionError::NotWasm);
    }
    let (own, others) = (taken_apart(module)?, taken_apart(companion)?);
    if code(&own) != code(&others) {
        return Err(CompanionError::OtherCode);
    }
    let mut bytes = head.to_vec();
    for (number, content) in own.iter().filter(|section| !is_debug_info(section)) {
        put_section(&mut bytes, *number, content);
    }
    let before = bytes.len();
    for (number, content) in others.iter().filter(is_debug_info) {
        put_section(&mut bytes, *number, content);
    }
    if bytes.len() == before { Err(CompanionError::Stripped) } else { Ok(bytes) }
}

fn code<'a>(sections: &[(u8, &'a [u8])]) -> Option<&'a [u8]> {
    sections.iter().find(|(number, _)| *number == CODE).map(|(_, content)| *content)
}

fn is_debug_info((number, content): &&(u8, &[u8])) -> bool {
    let named = |name: &[u8]| name == b"name" || name.starts_with(b".debug_");
    *number == CUSTOM && custom_name(content).is_some_and(named)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn module(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    fn stripped(module: &[u8]) -> Vec<u8> {
        let mut bytes = module[..HEAD].to_vec();
        for (number, content) in Sections::of(module).flatten().filter(|(number, _)| *number != CUSTOM) {
            put_section(&mut bytes, number, content);
        }
        bytes
    }

    #[test]
    fn names_of_the_same_code_are_taken_over_and_all_else_stays_the_modules() {
        let build = |data: &str| {
            module(&format!("(module (func $secret unreachable) (memory 1) (data (i32.const 0) \"{data}\"))"))
        };
        let with = with_debug_info(&stripped(&build("run")), &build("abc")).unwrap();
        assert_eq!(with, build("run"));
        assert_eq!(with_debug_info(&build("run"), &build("abc")).unwrap(), with, "names that are there are replaced");
    }

    #[test]
    fn other_code_is_refused_and_so_is_a_file_without_any_names() {
        let run = module("(module (func $f unreachable))");
        let other = module("(module (func $f nop))");
        assert_eq!(with_debug_info(&run, &other), Err(CompanionError::OtherCode));
        assert_eq!(with_debug_info(&run, &module("(module)")), Err(CompanionError::OtherCode));
        assert_eq!(with_debug_info(&run, &stripped(&run)), Err(CompanionError::Stripped));
    }

    #[test]
    fn what_is_no_module_is_refused_and_no_cut_panics() {
        let run = module("(module (func $f unreachable))");
        assert_eq!(with_debug_info(&run, b"\x7fELF"), Err(CompanionError::NotWasm));
        for end in 0..run.len() {
            let _ = with_debug_info(&run, &run[..end]);
            let _ = with_debug_info(&run[..end], &run);
        }
    }
}
