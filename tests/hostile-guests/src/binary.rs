//! Wasm modules, section by section, for what no text would show.

/// The core format, version 1.
pub const MAGIC: &[u8] = b"\0asm\x01\0\0\0";
/// A body that returns 0.
pub const ZERO: &[u8] = b"\x00\x41\x00\x0b";
const ONE: &[u8] = b"\x00\x41\x01\x0b";
const RETURNS_I32: &[u8] = b"\x60\x00\x01\x7f";
const MEMORY: &[u8] = b"\x01\x00\x01";

/// A number in LEB128.
pub fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A list: how many, then each.
pub fn list<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    let (mut count, mut bytes) = (0, Vec::new());
    for item in items {
        count += 1;
        bytes.extend_from_slice(item.as_ref());
    }
    [leb(count), bytes].concat()
}

/// Bytes behind their length.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&*leb(bytes.len()), bytes].concat()
}

/// A section.
pub fn section(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number][..], &sized(content)].concat()
}

/// A module that is a reactor, and more.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Types after the first, which is that of a function that returns an i32.
    pub types: Vec<Vec<u8>>,
    /// The whole import section's content, where there is one.
    pub imports: Vec<u8>,
    /// The types of functions after the first two, which are `sanderling_abi` and `sanderling_frame`.
    pub functions: Vec<usize>,
    /// The whole global section's content, where there is one.
    pub globals: Vec<u8>,
    /// Exports after the three that a reactor has.
    pub exports: Vec<Vec<u8>>,
    /// The whole element section's content, where there is one.
    pub elements: Vec<u8>,
    /// The body of `sanderling_frame`; returns 0 where it is empty.
    pub frame: Vec<u8>,
    /// The bodies of [`Module::functions`].
    pub bodies: Vec<Vec<u8>>,
    /// Whole sections at the end.
    pub tail: Vec<u8>,
}

impl Module {
    /// The module as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let types = [RETURNS_I32].into_iter().chain(self.types.iter().map(Vec::as_slice));
        let functions = [0, 0].into_iter().chain(self.functions.iter().copied()).map(leb);
        let export = |name: &str, kind: u8, index: u8| [sized(name.as_bytes()), vec![kind, index]].concat();
        let exports = [export("memory", 2, 0), export("sanderling_abi", 0, 0), export("sanderling_frame", 0, 1)];
        let frame = if self.frame.is_empty() { ZERO } else { &self.frame };
        let bodies = [ONE, frame].into_iter().chain(self.bodies.iter().map(Vec::as_slice)).map(sized);
        let optional = |number, content: &[u8]| if content.is_empty() { Vec::new() } else { section(number, content) };
        [
            MAGIC.to_vec(),
            section(1, &list(types)),
            optional(2, &self.imports),
            section(3, &list(functions)),
            section(5, MEMORY),
            optional(6, &self.globals),
            section(7, &list(exports.iter().chain(&self.exports))),
            optional(9, &self.elements),
            section(10, &list(bodies)),
            self.tail.clone(),
        ]
        .concat()
    }
}
