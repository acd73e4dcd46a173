//! Makes a module's state visible: exports all its memories and globals under names of our own.
//!
//! An engine gives its embedder what a module exports, and no more. So the export section is rewritten before the module is compiled:
//! entries are added, nothing else is touched, no index moves. What the module computes, and the fuel it takes, stay what they
//! are.

use super::instructions::changes_more_than_memory;
use crate::sections::{CODE, HEAD, Sections, leb, put_leb, put_section};

/// Exports that begin so are ours.
const RESERVED: &str = "sanderling:";
/// Of a module with more globals or exports than this nothing is made visible.
const MOST: u32 = 4096;

const IMPORTS: u8 = 2;
const MEMORIES: u8 = 5;
const GLOBALS: u8 = 6;
const EXPORTS: u8 = 7;
const START: u8 = 8;
/// Sections that come after the exports: start, elements, count of data, code, data.
const AFTER_EXPORTS: [u8; 5] = [START, 9, 12, CODE, 11];

const MEMORY_KIND: u8 = 2;
const GLOBAL_KIND: u8 = 3;

/// What becomes of a start section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It stays.
    Kept,
    /// It is left out: the state after it is put in place by other means.
    Dropped,
}

/// A module whose state can be seen.
#[derive(Debug)]
pub struct Exposed {
    /// The module.
    pub bytes: Vec<u8>,
    /// How many memories it has.
    pub memories: u32,
    /// How many globals it has.
    pub globals: u32,
    /// Whether its code changes tables or drops segments, which nobody sees from outside.
    pub changes_more_than_memory: bool,
}

/// The name under which a memory is exported.
pub fn memory_name(index: u32) -> String {
    format!("{RESERVED}memory:{index}")
}

/// The name under which a global is exported.
pub fn global_name(index: u32) -> String {
    format!("{RESERVED}global:{index}")
}

/// Makes a module's state visible. `None` where that cannot be done: it imports more than functions, uses our names, or is
/// not well formed.
pub fn expose(module: &[u8], start: Start) -> Option<Exposed> {
    let head = module.get(..HEAD)?;
    let sections: Vec<(u8, &[u8])> = Sections::of(module).collect::<Option<_>>()?;
    let content = |wanted| sections.iter().find(|(number, _)| *number == wanted).map(|(_, content)| *content);
    let count = |wanted| content(wanted).map_or(Some(0), |content| leb(content).map(|(count, _)| count));
    if !content(IMPORTS).is_none_or(imports_functions_alone) {
        return None;
    }
    let (memories, globals) = (count(MEMORIES)?, count(GLOBALS)?);
    let exports = exports(content(EXPORTS).unwrap_or(&[0]), memories, globals)?;
    let mut bytes = Vec::with_capacity(module.len() + exports.len());
    bytes.extend_from_slice(head);
    let mut pending = Some(exports);
    for (number, content) in &sections {
        if (*number == EXPORTS || AFTER_EXPORTS.contains(number))
            && let Some(exports) = pending.take()
        {
            put_section(&mut bytes, EXPORTS, &exports);
        }
        if *number != EXPORTS && (*number != START || start == Start::Kept) {
            put_section(&mut bytes, *number, content);
        }
    }
    if let Some(exports) = pending {
        put_section(&mut bytes, EXPORTS, &exports);
    }
    let changes_more_than_memory = content(CODE).is_some_and(changes_more_than_memory);
    Some(Exposed { bytes, memories, globals, changes_more_than_memory })
}

/// The content of an export section with ours added.
fn exports(present: &[u8], memories: u32, globals: u32) -> Option<Vec<u8>> {
    let (count, entries) = leb(present)?;
    let taken = entries.windows(RESERVED.len()).any(|window| window == RESERVED.as_bytes());
    if taken || globals > MOST || count > MOST {
        return None;
    }
    let mut content = Vec::with_capacity(entries.len() + 32 * (memories + globals) as usize);
    put_leb(&mut content, count.checked_add(memories)?.checked_add(globals)?);
    content.extend_from_slice(entries);
    for index in 0..memories {
        put_export(&mut content, &memory_name(index), MEMORY_KIND, index);
    }
    for index in 0..globals {
        put_export(&mut content, &global_name(index), GLOBAL_KIND, index);
    }
    Some(content)
}

fn imports_functions_alone(content: &[u8]) -> bool {
    let all = || {
        let (count, mut rest) = leb(content)?;
        for _ in 0..count {
            for _ in 0..2 {
                let (length, after) = leb(rest)?;
                rest = after.get(usize::try_from(length).ok()?..)?;
            }
            let (kind, after) = rest.split_first()?;
            if *kind != 0 {
                return Some(false);
            }
            rest = leb(after)?.1;
        }
        Some(true)
    };
    all() == Some(true)
}

fn put_export(content: &mut Vec<u8>, name: &str, kind: u8, index: u32) {
    put_leb(content, u32::try_from(name.len()).unwrap_or(u32::MAX));
    content.extend_from_slice(name.as_bytes());
    content.push(kind);
    put_leb(content, index);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn exposed(text: &str, start: Start) -> Exposed {
        expose(&wat::parse_str(text).unwrap(), start).unwrap()
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let engine = wasmi::Engine::default();
        let module = wasmi::Module::new(&engine, bytes).unwrap();
        module.exports().map(|export| export.name().to_owned()).collect()
    }

    #[test]
    fn exports_every_memory_and_global_beside_what_is_exported() {
        let module = exposed(
            r#"(module (import "a" "f" (func)) (memory 1) (memory 1) (global (mut i32) (i32.const 1))
                (global i64 (i64.const 2)) (func (export "own")) (data (i32.const 0) "x"))"#,
            Start::Kept,
        );
        let wanted =
            ["own", "sanderling:memory:0", "sanderling:memory:1", "sanderling:global:0", "sanderling:global:1"];
        let mut found = names(&module.bytes);
        found.sort();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(found, wanted);
        assert_eq!((module.memories, module.globals), (2, 2));
    }

    #[test]
    fn makes_an_export_section_where_there_is_none_and_leaves_the_start_out_when_asked() {
        let text = "(module (memory 1) (func $f unreachable) (start $f) (data (i32.const 0) \"x\"))";
        let [kept, dropped] = [Start::Kept, Start::Dropped].map(|start| exposed(text, start).bytes);
        assert_eq!(names(&kept), ["sanderling:memory:0"]);
        assert_eq!(names(&dropped), ["sanderling:memory:0"]);
        assert_eq!(kept.len() - dropped.len(), 3);
        assert_eq!(names(&exposed("(module (memory 1))", Start::Kept).bytes), ["sanderling:memory:0"]);
    }

    #[test]
    fn leaves_modules_alone_that_import_state_or_use_our_names() {
        for text in [
            r#"(module (import "a" "m" (memory 1)))"#,
            r#"(module (import "a" "g" (global i32)))"#,
            r#"(module (memory (export "sanderling:memory:0") 1))"#,
        ] {
            assert!(expose(&wat::parse_str(text).unwrap(), Start::Kept).is_none(), "{text}");
        }
    }

    #[test]
    fn no_cut_or_change_of_a_module_panics() {
        let module = wat::parse_str(
            r#"(module (import "a" "f" (func)) (memory 1) (global (mut i32) (i32.const 1)) (func (export "own")) (start 1))"#,
        )
        .unwrap();
        for end in 0..module.len() {
            let _ = expose(&module[..end], Start::Kept);
        }
        for at in 0..module.len() {
            let mut changed = module.clone();
            changed[at] ^= 0xff;
            let _ = expose(&changed, Start::Dropped);
        }
    }
}
