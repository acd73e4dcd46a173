//! Gives a module a shadow of its call stack, from which a backtrace is read when it has ended.
//!
//! wasmi tells no backtraces. So each function of the module is called through one of ours that has its number: it writes the number
//! onto a stack in a memory of its own, calls the function, and takes the number off again. When the guest traps, nothing takes
//! anything off. The functions themselves move to the end of the index space and stay as they are: their calls, and whatever
//! else names a function, find ours. No instruction is looked at.
//!
//! Limits: such a module uses more fuel and twice the call depth, so it is for looking at an execution, not for comparing it. What is known
//! is functions, not places in them.

use std::collections::BTreeMap;

use super::expose::put_leb;
use crate::module::{Sections, leb};

const TYPES: u8 = 1;
const IMPORTS: u8 = 2;
const FUNCTIONS: u8 = 3;
const MEMORIES: u8 = 5;
const GLOBALS: u8 = 6;
const CODE: u8 = 10;
/// The order of sections.
const ORDER: [u8; 12] = [TYPES, IMPORTS, FUNCTIONS, 4, MEMORIES, GLOBALS, 7, 8, 9, 12, CODE, 11];

/// Pages of the memory that the stack lies in: 64 KiB each, four bytes an entry.
const PAGES: u8 = 4;
/// So many functions of a backtrace are given, the innermost.
const DEEPEST: usize = 64;

/// A module with a shadow of its stack.
pub(crate) fn shadow(module: &[u8]) -> Option<Vec<u8>> {
    let sections: BTreeMap<u8, &[u8]> = Sections::of(module).collect::<Option<Vec<_>>>()?.into_iter().collect();
    let content = |number| sections.get(&number).copied().unwrap_or(&[0]);
    let parameters = parameters(content(TYPES))?;
    let imported = imported(content(IMPORTS))?;
    let (count, types) = leb(content(FUNCTIONS))?;
    let (memories, memory_list) = leb(content(MEMORIES))?;
    let (globals, global_list) = leb(content(GLOBALS))?;
    let (bodies, code) = leb(content(CODE))?;
    if bodies != count {
        return None;
    }
    let mut functions = numbered(count.checked_mul(2)?, types);
    functions.extend_from_slice(types);
    let mut memory = numbered(memories.checked_add(1)?, memory_list);
    memory.extend([0x01, PAGES, PAGES]);
    let mut global = numbered(globals.checked_add(1)?, global_list);
    // A mutable i32 that begins with 0.
    global.extend([0x7f, 0x01, 0x41, 0x00, 0x0b]);
    let mut bodies = numbered(count.checked_mul(2)?, &[]);
    let mut rest = types;
    for index in 0..count {
        let (kind, after) = leb(rest)?;
        rest = after;
        let parameters = *parameters.get(usize::try_from(kind).ok()?)?;
        let own = imported.checked_add(index)?;
        put_wrapper(&mut bodies, own, own.checked_add(count)?, parameters, memories, globals);
    }
    bodies.extend_from_slice(code);
    let changed = BTreeMap::from([(FUNCTIONS, functions), (MEMORIES, memory), (GLOBALS, global), (CODE, bodies)]);
    let mut bytes = module.get(..8)?.to_vec();
    for number in ORDER {
        if let Some(content) = changed.get(&number).map(|content| &**content).or(sections.get(&number).copied()) {
            bytes.push(number);
            put_leb(&mut bytes, u32::try_from(content.len()).ok()?);
            bytes.extend_from_slice(content);
        }
    }
    Some(bytes)
}

/// A count and what it counts.
fn numbered(count: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 16);
    put_leb(&mut bytes, count);
    bytes.extend_from_slice(content);
    bytes
}

/// The function that writes `own` onto the stack, calls `body` and takes `own` off again.
fn put_wrapper(code: &mut Vec<u8>, own: u32, body: u32, parameters: u32, memory: u32, global: u32) {
    const GLOBAL_GET: u8 = 0x23;
    const GLOBAL_SET: u8 = 0x24;
    const CONST: u8 = 0x41;
    let mut bytes = vec![0x00];
    let op = |bytes: &mut Vec<u8>, code: u8, value: u32| {
        bytes.push(code);
        put_leb(bytes, value);
    };
    // stack[top] = own
    op(&mut bytes, GLOBAL_GET, global);
    bytes.push(CONST);
    put_signed(&mut bytes, own);
    // i32.store with a memory index.
    bytes.extend([0x36, 0x42]);
    put_leb(&mut bytes, memory);
    bytes.push(0x00);
    // top += 4
    op(&mut bytes, GLOBAL_GET, global);
    bytes.extend([CONST, 0x04, 0x6a]);
    op(&mut bytes, GLOBAL_SET, global);
    for parameter in 0..parameters {
        op(&mut bytes, 0x20, parameter);
    }
    op(&mut bytes, 0x10, body);
    // top -= 4
    op(&mut bytes, GLOBAL_GET, global);
    bytes.extend([CONST, 0x04, 0x6b]);
    op(&mut bytes, GLOBAL_SET, global);
    bytes.push(0x0b);
    put_leb(code, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    code.extend(bytes);
}

/// A number that is not negative in signed LEB128.
fn put_signed(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x40 {
        // The low seven bits.
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// How many parameters each type has; `None` where there are others than of functions.
fn parameters(content: &[u8]) -> Option<Vec<u32>> {
    let (count, mut rest) = leb(content)?;
    let mut all = Vec::new();
    for _ in 0..count {
        let (form, after) = rest.split_first()?;
        let (parameters, after) = leb(after)?;
        // Each a byte: number types, vectors, and the two old reference types.
        let after = after.get(usize::try_from(parameters).ok()?..)?;
        let (results, after) = leb(after)?;
        rest = after.get(usize::try_from(results).ok()?..)?;
        if *form != 0x60 {
            return None;
        }
        all.push(parameters);
    }
    Some(all)
}

/// How many functions are imported; `None` where something else is.
fn imported(content: &[u8]) -> Option<u32> {
    super::expose::imports_functions_alone(content).then(|| leb(content).map(|(count, _)| count))?
}

/// The functions on a stack that was read from the guest's end, innermost first.
pub(crate) fn unwind(stack: &[u8], top: u32) -> Vec<u32> {
    let used = stack.get(..usize::try_from(top).unwrap_or(usize::MAX)).unwrap_or(stack);
    used.as_chunks::<4>().0.iter().rev().take(DEEPEST).map(|entry| u32::from_le_bytes(*entry)).collect()
}

/// The names of functions, as the module's name section has them.
pub(crate) fn function_names(module: &[u8]) -> BTreeMap<u32, String> {
    let named = |content: &[u8]| {
        let (length, rest) = leb(content)?;
        let (name, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        (name == b"name").then_some(rest.to_vec())
    };
    let section =
        Sections::of(module).flatten().filter(|(number, _)| *number == 0).find_map(|(_, content)| named(content));
    section.and_then(|section| names(&section)).unwrap_or_default()
}

fn names(mut section: &[u8]) -> Option<BTreeMap<u32, String>> {
    while let Some((kind, after)) = section.split_first() {
        let (length, after) = leb(after)?;
        let (content, rest) = after.split_at_checked(usize::try_from(length).ok()?)?;
        section = rest;
        if *kind != 1 {
            continue;
        }
        let (count, mut entries) = leb(content)?;
        let mut names = BTreeMap::new();
        for _ in 0..count {
            let (index, after) = leb(entries)?;
            let (length, after) = leb(after)?;
            let (name, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
            entries = after;
            names.insert(index, String::from_utf8_lossy(name).into_owned());
        }
        return Some(names);
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn run(text: &str) -> (Result<(), wasmi::Error>, Vec<u32>) {
        let module = wat::parse_str(text).unwrap();
        let exposed = crate::record::expose(&shadow(&module).unwrap(), crate::record::Start::Kept).unwrap();
        let mut config = wasmi::Config::default();
        config.wasm_multi_memory(true).wasm_tail_call(true);
        let engine = wasmi::Engine::new(&config);
        let module = wasmi::Module::new(&engine, &exposed.bytes).unwrap();
        let mut store = wasmi::Store::new(&engine, ());
        let instance = wasmi::Linker::new(&engine).instantiate_and_start(&mut store, &module).unwrap();
        let result = instance.get_typed_func::<i32, i32>(&store, "f").unwrap().call(&mut store, 5).map(drop);
        let memory = instance.get_memory(&store, &format!("sanderling:memory:{}", exposed.memories - 1)).unwrap();
        let top = instance.get_global(&store, &format!("sanderling:global:{}", exposed.globals - 1)).unwrap();
        let top = top.get(&store).i32().unwrap();
        (result, unwind(memory.data(&store), top.cast_unsigned()))
    }

    #[test]
    fn a_trap_leaves_the_functions_that_were_called() {
        let (result, stack) = run(
            r#"(module (type (func)) (memory 1) (global (mut i32) (i32.const 9)) (table funcref (elem $deep))
                (func $deep (param i32) (result i32) (if (i32.eqz (local.get 0)) (then (unreachable)))
                    (call $deep (i32.sub (local.get 0) (i32.const 2))))
                (func $middle (param i32) (result i32) (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0)))
                (func (export "f") (param i32) (result i32) (drop (call $fine)) (call $middle (i32.sub (local.get 0) (i32.const 1))))
                (func $fine (result i64) (i64.const 1)))"#,
        );
        assert!(result.is_err());
        assert_eq!(stack, [0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_call_that_returns_leaves_nothing() {
        let (result, stack) =
            run(r#"(module (func (export "f") (param i32) (result i32) (return_call $g (local.get 0)))
                (func $g (param i32) (result i32) (local.get 0)))"#);
        assert!(result.is_ok() && stack.is_empty());
    }

    #[test]
    fn names_are_those_of_the_name_section() {
        let module = wat::parse_str(r#"(module (import "a" "b" (func $b)) (func $first) (func $second))"#).unwrap();
        let names: Vec<_> = function_names(&module).into_values().collect();
        assert_eq!(names, ["b", "first", "second"]);
        for end in 0..module.len() {
            function_names(&module[..end]);
            let _ = shadow(&module[..end]);
        }
        for at in 0..module.len() {
            let mut changed = module.clone();
            changed[at] ^= 0xff;
            function_names(&changed);
            let _ = shadow(&changed);
        }
    }
}
