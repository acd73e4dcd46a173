//! Which requests a poll takes, and what the answers mean.
//!
//! Invariants: points that lie beside each other, or overlap, are read in one request where it stays within [`MOST_REGISTERS`] or [`MOST_BITS`];
//! what no point asks for is never read, since a device may refuse to, or do something when it is. A point is never cut.

use serde::Deserialize;

/// What one request may ask for, by the specification: registers …
pub const MOST_REGISTERS: u16 = 125;
/// … and bits.
pub const MOST_BITS: u16 = 2000;

/// A table of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Registers that can be written, function 3.
    Holding,
    /// Registers that can only be read, function 4.
    Input,
    /// Bits that can be written, function 1.
    Coil,
    /// Bits that can only be read, function 2.
    Discrete,
}

impl Function {
    /// Whether it holds bits.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The most that one request asks for.
    pub fn most(self) -> u16 {
        if self.is_bits() { MOST_BITS } else { MOST_REGISTERS }
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Holding => "holding registers",
            Self::Input => "input registers",
            Self::Coil => "coils",
            Self::Discrete => "discrete inputs",
        }
    }
}

/// What one or more registers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// One register.
    #[default]
    U16,
    /// One register.
    I16,
    /// Two registers.
    U32,
    /// Two registers.
    I32,
    /// Two registers.
    F32,
    /// Four registers.
    U64,
    /// Four registers.
    I64,
    /// Four registers.
    F64,
}

impl ValueType {
    /// Registers of one value.
    pub fn registers(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
    }
}

/// Which register of several comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordOrder {
    /// That of the highest bits.
    #[default]
    Big,
    /// That of the lowest bits.
    Little,
}

/// One value, or several of one kind beside each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name in JSON and in errors.
    pub name: String,
    /// Whom to ask.
    pub unit: u8,
    /// Where it is.
    pub function: Function,
    /// The address of its first register or bit, from 0 on.
    pub address: u16,
    /// How many values.
    pub count: u16,
    /// What they are; of no meaning for bits.
    pub value: ValueType,
    /// Which register comes first.
    pub order: WordOrder,
    /// The value is multiplied with this …
    pub scale: f64,
    /// … and this is added.
    pub offset: f64,
}

impl Point {
    /// Registers or bits of all its values.
    pub(crate) fn length(&self) -> u32 {
        let one = if self.function.is_bits() { 1 } else { self.value.registers() };
        u32::from(self.count) * u32::from(one)
    }

    /// The address after its last.
    fn end(&self) -> u32 {
        u32::from(self.address) + self.length()
    }
}

/// What is asked of a device at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) unit: u8,
    pub(super) function: Function,
    pub(super) address: u16,
    pub(super) count: u16,
    /// The points that the answer holds, by their place in the settings.
    pub(super) points: Vec<usize>,
}

impl Request {
    /// For errors.
    pub(super) fn in_words(&self) -> String {
        let last = u32::from(self.address) + u32::from(self.count).saturating_sub(1);
        format!("{} {} to {last} of unit {}", self.function.name(), self.address, self.unit)
    }
}

/// The fewest requests that read these points and nothing else.
pub(super) fn requests(points: &[Point]) -> Vec<Request> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|index| points.get(*index).map(|point| (point.unit, point.function, point.address)));
    let mut requests: Vec<Request> = Vec::new();
    for index in order {
        let Some(point) = points.get(index) else { continue };
        let joined = requests.last_mut().is_some_and(|request| join(request, point));
        match requests.last_mut() {
            Some(request) if joined => request.points.push(index),
            _ => requests.push(Request {
                unit: point.unit,
                function: point.function,
                address: point.address,
                count: u16::try_from(point.length()).unwrap_or(u16::MAX),
                points: vec![index],
            }),
        }
    }
    requests
}

/// Makes the request read the point too, where that is possible.
fn join(request: &mut Request, point: &Point) -> bool {
    let start = u32::from(request.address);
    let end = (start + u32::from(request.count)).max(point.end());
    let beside = u32::from(point.address) <= start + u32::from(request.count);
    if (request.unit, request.function) != (point.unit, point.function) || !beside {
        return false;
    }
    match u16::try_from(end - start) {
        Ok(count) if count <= point.function.most() => {
            request.count = count;
            true
        }
        _ => false,
    }
}

/// A value as it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Bit(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Value {
    /// The value of these registers, as many as its type has.
    fn of_registers(registers: &[u16], value: ValueType, order: WordOrder) -> Option<Self> {
        if registers.len() != usize::from(value.registers()) {
            return None;
        }
        let join = |bits: u64, register: &u16| bits << 16 | u64::from(*register);
        let bits = match order {
            WordOrder::Big => registers.iter().fold(0, join),
            WordOrder::Little => registers.iter().rev().fold(0, join),
        };
        // Each cast keeps the bits that its type has.
        Some(match value {
            ValueType::U16 | ValueType::U32 | ValueType::U64 => Self::Unsigned(bits),
            ValueType::I16 => Self::Signed(i64::from(bits as u16 as i16)),
            ValueType::I32 => Self::Signed(i64::from(bits as u32 as i32)),
            ValueType::I64 => Self::Signed(bits as i64),
            ValueType::F32 => Self::Float(f64::from(f32::from_bits(bits as u32))),
            ValueType::F64 => Self::Float(f64::from_bits(bits)),
        })
    }

    /// Scaled and moved; a value that is not is left as it is, so that large numbers keep all their digits.
    fn scaled(self, point: &Point) -> Self {
        if point.scale == 1.0 && point.offset == 0.0 {
            return self;
        }
        Self::Float(self.number() * point.scale + point.offset)
    }

    /// The nearest number.
    pub(super) fn number(self) -> f64 {
        match self {
            Self::Bit(bit) => f64::from(u8::from(bit)),
            Self::Unsigned(number) => number as f64,
            Self::Signed(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    /// As JSON; `null` for what is no finite number.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let written = match self {
            Self::Bit(bit) => serde_json::to_writer(out, &bit),
            Self::Unsigned(number) => serde_json::to_writer(out, &number),
            Self::Signed(number) => serde_json::to_writer(out, &number),
            Self::Float(number) => serde_json::to_writer(out, &number),
        };
        // Into memory, which never fails.
        debug_assert!(written.is_ok());
    }
}

/// What an answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Registers(Vec<u16>),
    Bits(Vec<bool>),
}

impl Answer {
    /// Whether it is as long as was asked for. Bits come in whole bytes.
    pub(super) fn answers(&self, request: &Request) -> bool {
        let count = usize::from(request.count);
        match self {
            Self::Registers(registers) => !request.function.is_bits() && registers.len() == count,
            Self::Bits(bits) => request.function.is_bits() && bits.len() == count.next_multiple_of(8),
        }
    }

    /// The `index`th value of a point; `None` where the answer does not hold it.
    pub(super) fn value(&self, request: &Request, point: &Point, index: u16) -> Option<Value> {
        let start = usize::from(point.address.checked_sub(request.address)?);
        let value = match self {
            Self::Bits(bits) => Value::Bit(*bits.get(start + usize::from(index))?),
            Self::Registers(registers) => {
                let length = usize::from(point.value.registers());
                let start = start + usize::from(index) * length;
                Value::of_registers(registers.get(start..start + length)?, point.value, point.order)?
            }
        };
        Some(value.scaled(point))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sensors::modbus) fn point(function: Function, address: u16, value: ValueType) -> Point {
        Point {
            name: format!("p{address}"),
            unit: 1,
            function,
            address,
            count: 1,
            value,
            order: WordOrder::Big,
            scale: 1.0,
            offset: 0.0,
        }
    }

    fn shape(points: &[Point]) -> Vec<(u16, u16, Vec<usize>)> {
        requests(points).into_iter().map(|request| (request.address, request.count, request.points)).collect()
    }

    #[test]
    fn points_beside_each_other_are_read_together_and_nothing_between() {
        let holding = |address, value| point(Function::Holding, address, value);
        let points = [
            holding(4, ValueType::U16),
            holding(0, ValueType::F32),
            holding(2, ValueType::U32),
            // The same register once more, as something else.
            holding(3, ValueType::I16),
            holding(6, ValueType::U16),
            point(Function::Input, 5, ValueType::U16),
            Point { unit: 2, ..holding(5, ValueType::U16) },
        ];
        let expected = [(0, 5, vec![1, 2, 3, 0]), (6, 1, vec![4]), (5, 1, vec![5]), (5, 1, vec![6])];
        assert_eq!(shape(&points), expected);
    }

    #[test]
    fn no_request_asks_for_more_than_devices_answer() {
        let points: Vec<_> = (0..100).map(|index| point(Function::Input, index * 4, ValueType::F64)).collect();
        let requests = requests(&points);
        assert!(requests.iter().all(|request| request.count <= MOST_REGISTERS));
        assert_eq!(requests.iter().map(|request| request.count).collect::<Vec<_>>(), [124, 124, 124, 28]);
        let bits = [
            Point { count: 1999, ..point(Function::Coil, 0, ValueType::U16) },
            Point { count: 2, ..point(Function::Coil, 1999, ValueType::U16) },
        ];
        assert_eq!(shape(&bits), [(0, 1999, vec![0]), (1999, 2, vec![1])]);
        let last = Point { count: 2, ..point(Function::Holding, 65_534, ValueType::U16) };
        assert_eq!(shape(&[last]), [(65_534, 2, vec![0])]);
    }

    #[test]
    fn values_are_what_their_type_and_order_say() {
        let read = |value, order, registers: &[u16]| {
            let point = Point { order, ..point(Function::Holding, 0, value) };
            let request = requests(std::slice::from_ref(&point)).remove(0);
            Answer::Registers(registers.to_vec()).value(&request, &point, 0).unwrap()
        };
        use ValueType as T;
        use WordOrder::{Big, Little};
        assert_eq!(read(T::U16, Big, &[0xffff]), Value::Unsigned(65_535));
        assert_eq!(read(T::I16, Big, &[0xffff]), Value::Signed(-1));
        assert_eq!(read(T::U32, Big, &[1, 2]), Value::Unsigned(65_538));
        assert_eq!(read(T::U32, Little, &[2, 1]), Value::Unsigned(65_538));
        assert_eq!(read(T::I32, Big, &[0xffff, 0xfffe]), Value::Signed(-2));
        assert_eq!(read(T::F32, Big, &[0x3fc0, 0]), Value::Float(1.5));
        assert_eq!(read(T::F32, Little, &[0, 0x3fc0]), Value::Float(1.5));
        assert_eq!(read(T::U64, Big, &[0xffff; 4]), Value::Unsigned(u64::MAX));
        assert_eq!(read(T::I64, Little, &[0, 0, 0, 0x8000]), Value::Signed(i64::MIN));
        assert_eq!(read(T::F64, Big, &[0x3ff8, 0, 0, 0]), Value::Float(1.5));
    }

    #[test]
    fn large_numbers_keep_their_digits_unless_they_are_scaled() {
        let mut out = Vec::new();
        Value::Unsigned(u64::MAX).write(&mut out);
        out.push(b' ');
        Value::Float(f64::NAN).write(&mut out);
        out.push(b' ');
        Value::Bit(true).write(&mut out);
        let scaled = Point { scale: 0.1, offset: -40.0, ..point(Function::Holding, 0, ValueType::U16) };
        out.push(b' ');
        Value::Unsigned(655).scaled(&scaled).write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "18446744073709551615 null true 25.5");
    }

    #[test]
    fn an_answer_of_another_length_answers_nothing() {
        let points = [Point { count: 10, ..point(Function::Coil, 3, ValueType::U16) }];
        let request = requests(&points).remove(0);
        assert!(Answer::Bits(vec![false; 16]).answers(&request));
        assert!(!Answer::Bits(vec![false; 8]).answers(&request));
        assert!(!Answer::Registers(vec![0; 10]).answers(&request));
        assert_eq!(Answer::Bits(vec![false; 8]).value(&request, &points[0], 9), None);
    }
}
