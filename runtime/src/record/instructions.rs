//! Looks through a module's code for what changes state that no snapshot holds: tables, and segments that are dropped.
//!
//! Only as much is read of an instruction as is needed to find the next one. What is not known is taken for something that
//! changes such state, so that a module is never said to be harmless for want of understanding.

/// Bytes that are read from the front; `None` past the end.
struct Code<'a>(&'a [u8]);

/// What an instruction is, for this purpose.
#[derive(PartialEq, Eq)]
enum Kind {
    Harmless,
    Changes,
}

impl Code<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    /// A number in LEB128 of at most 64 bits, signed or not.
    fn leb(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn lebs(&mut self, count: u64) -> Option<()> {
        (0..count).try_for_each(|_| self.leb().map(drop))
    }

    fn memory_argument(&mut self) -> Option<()> {
        let memory = self.leb()? & 0x40 != 0;
        self.lebs(if memory { 2 } else { 1 })
    }

    /// Skips one instruction.
    fn instruction(&mut self) -> Option<Kind> {
        match self.byte()? {
            0x00 | 0x01 | 0x05 | 0x0b | 0x0f | 0x1a | 0x1b | 0x45..=0xc4 | 0xd1 => {}
            0x02..=0x04 | 0x0c | 0x0d | 0x10 | 0x12 | 0x20..=0x25 | 0x3f..=0x42 | 0xd0 | 0xd2 => self.lebs(1)?,
            // table.set
            0x26 => return Some(Kind::Changes),
            0x0e => {
                let targets = self.leb()?;
                self.lebs(targets.checked_add(1)?)?;
            }
            0x11 | 0x13 => self.lebs(2)?,
            0x1c => {
                let types = self.leb()?;
                self.lebs(types)?;
            }
            0x28..=0x3e => self.memory_argument()?,
            0x43 => self.skip(4)?,
            0x44 => self.skip(8)?,
            0xfc => return self.numbered(),
            0xfd => self.vector()?,
            _ => return Some(Kind::Changes),
        }
        Some(Kind::Harmless)
    }

    /// Saturating conversions, bulk memory and tables.
    fn numbered(&mut self) -> Option<Kind> {
        match self.leb()? {
            0..=7 => {}
            // memory.init and memory.copy
            8 | 10 => self.lebs(2)?,
            // memory.fill and table.size
            11 | 16 => self.lebs(1)?,
            // data.drop, table.init, elem.drop, table.copy, table.grow, table.fill, and what is not known
            _ => return Some(Kind::Changes),
        }
        Some(Kind::Harmless)
    }

    fn vector(&mut self) -> Option<()> {
        match self.leb()? {
            0..=11 | 92 | 93 => self.memory_argument(),
            12 | 13 => self.skip(16),
            21..=34 => self.skip(1),
            84..=91 => {
                self.memory_argument()?;
                self.skip(1)
            }
            _ => Some(()),
        }
    }

    /// Whether a function's body changes what no snapshot holds.
    fn changes(mut self) -> Option<bool> {
        for _ in 0..self.leb()? {
            self.lebs(2)?;
        }
        while !self.0.is_empty() {
            if self.instruction()? == Kind::Changes {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// Whether a code section may change tables, or drop segments.
pub(super) fn changes_more_than_memory(section: &[u8]) -> bool {
    let mut code = Code(section);
    let mut any = || {
        for _ in 0..code.leb()? {
            let length = usize::try_from(code.leb()?).ok()?;
            let (body, rest) = code.0.split_at_checked(length)?;
            code.0 = rest;
            if Code(body).changes()? {
                return Some(true);
            }
        }
        Some(false)
    };
    any().unwrap_or(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::record::{Start, expose};

    fn changes(body: &str) -> bool {
        let text = format!(
            "(module (memory 1) (memory 1) (table 4 funcref) (data $d \"x\") (elem $e funcref (ref.func 0))
                (global $g (mut i32) (i32.const 0)) (func (param i32) (result i32) {body}))"
        );
        expose(&wat::parse_str(text).unwrap(), Start::Kept).unwrap().changes_more_than_memory
    }

    #[test]
    fn sees_what_changes_tables_or_drops_segments() {
        for body in [
            "(table.set (i32.const 0) (ref.func 0)) (i32.const 0)",
            "(drop (table.grow (ref.null func) (i32.const 1))) (i32.const 0)",
            "(table.fill (i32.const 0) (ref.null func) (i32.const 1)) (i32.const 0)",
            "(table.copy (i32.const 0) (i32.const 1) (i32.const 1)) (i32.const 0)",
            "(table.init $e (i32.const 0) (i32.const 0) (i32.const 1)) (i32.const 0)",
            "(elem.drop $e) (i32.const 0)",
            "(data.drop $d) (i32.const 0)",
        ] {
            assert!(changes(body), "{body}");
        }
    }

    #[test]
    fn is_not_misled_by_the_same_bytes_in_the_place_of_something_else() {
        for body in [
            "(i32.const 0x26)",
            "(i32.wrap_i64 (i64.const 0x0926fc))",
            "(i32.trunc_f64_s (f64.const 3.9e-59))",
            "(i32.trunc_sat_f32_u (f32.const 1e9))",
            "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (table.size)",
            "(memory.copy 1 0 (i32.const 0) (i32.const 0) (i32.const 38)) (i32.load 1 offset=38 (i32.const 0))",
            "(memory.fill (i32.const 38) (i32.const 38) (i32.const 38)) (memory.size)",
            "(i32x4.extract_lane 3 (i8x16.shuffle 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9
                (v128.const i32x4 0x26262626 2 3 4) (v128.load32_lane offset=38 2 (i32.const 38) (v128.load (i32.const 0)))))",
            "(block (result i32) (block (br_table 0 1 0 (i32.const 1) (local.get 0))) (select (result i32) (local.get 0) (i32.const 9) (i32.const 1)))",
            "(call_indirect (param i32) (result i32) (i32.const 9) (i32.const 0))",
            "(return_call 0 (i32.const 38))",
            "(if (result i32) (ref.is_null (table.get (i32.const 0))) (then (global.get $g)) (else (loop (result i32) (i32.const 1))))",
        ] {
            assert!(!changes(body), "{body}");
        }
    }

    #[test]
    fn takes_what_it_does_not_understand_for_a_change() {
        assert!(changes_more_than_memory(&[1, 3, 0, 0xff, 0x0b]));
        assert!(changes_more_than_memory(&[1, 9, 0, 0x0b]));
        assert!(changes_more_than_memory(&[]));
        assert!(!changes_more_than_memory(&[1, 2, 0, 0x0b]));
        assert!(changes_more_than_memory(&[1, 12, 0, 0x0e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]));
    }
}
