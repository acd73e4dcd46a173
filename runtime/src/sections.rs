//! The sections of a wasm file: taken apart, and put together again.
//!
//! Nothing is known here of what sections hold. Bytes that are not well formed give `None`, never a panic.

/// The number of custom sections.
pub const CUSTOM: u8 = 0;
/// The number of the code section.
pub const CODE: u8 = 10;
/// What a file begins with: magic number and version.
pub const HEAD: usize = 8;

/// The sections of a module, by number and content; `None` in the place of one that is cut off.
#[derive(Clone, Debug)]
pub struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    /// Those after the magic number and the version.
    pub fn of(module: &'a [u8]) -> Self {
        Self(module.get(HEAD..).unwrap_or_default())
    }

    /// What has not been taken apart yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Sections<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, after) = std::mem::take(&mut self.0).split_first()?;
        let section = leb(after).and_then(|(length, body)| body.split_at_checked(usize::try_from(length).ok()?));
        Some(section.map(|(content, rest)| {
            self.0 = rest;
            (*number, content)
        }))
    }
}

/// The name of a custom section, from its content.
pub fn custom_name(content: &[u8]) -> Option<&[u8]> {
    let (length, rest) = leb(content)?;
    rest.get(..usize::try_from(length).ok()?)
}

/// An unsigned 32-bit number in LEB128, and what follows it.
pub fn leb(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u32;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        let part = u32::from(byte & 0x7f);
        value |= part.checked_shl(u32::try_from(index).ok()? * 7)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// Appends a number in LEB128.
pub fn put_leb(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// Appends a section.
pub fn put_section(bytes: &mut Vec<u8>, number: u8, content: &[u8]) {
    bytes.push(number);
    put_leb(bytes, u32::try_from(content.len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(content);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_taken_apart_and_put_together_is_the_same() {
        let module = wat::parse_str("(module $named (func $f) (memory 1) (export \"f\" (func 0)))").unwrap();
        let sections: Vec<_> = Sections::of(&module).collect::<Option<_>>().unwrap();
        let mut again = module[..HEAD].to_vec();
        sections.iter().for_each(|(number, content)| put_section(&mut again, *number, content));
        assert_eq!(again, module);
        let custom = sections.iter().find(|(number, _)| *number == CUSTOM).unwrap();
        assert_eq!(custom_name(custom.1), Some(&b"name"[..]));
    }

    #[test]
    fn numbers_are_read_as_they_are_written_and_none_is_read_past_32_bits() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u32::MAX] {
            let mut bytes = Vec::new();
            put_leb(&mut bytes, number);
            assert_eq!(leb(&bytes), Some((number, &[][..])));
            assert_eq!(leb(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(leb(&[0x80; 6]), None);
    }

    #[test]
    fn a_section_that_is_cut_off_is_told_in_its_place() {
        let module = b"\0asm\x01\0\0\0\x00\x01x\x0a\x05\0";
        assert_eq!(Sections::of(module).collect::<Vec<_>>(), [Some((0, &b"x"[..])), None]);
        assert_eq!(Sections::of(b"\0asm").count(), 0);
        assert_eq!(custom_name(b"\x05ab"), None);
    }
}
