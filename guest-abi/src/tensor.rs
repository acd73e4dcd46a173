//! The types of tensors in wasi-nn, and what `nn_output_info` writes.

/// The length of the record that `nn_output_info` writes: type u32 @0, rank u32 @4, dimensions 8 × u32 @8.
pub const INFO: usize = 40;
/// The largest rank that the record can say.
pub const MAX_RANK: usize = 8;

/// The type of a tensor's elements, with the numbers of wasi-nn 0.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TensorType {
    /// 16-bit float.
    F16 = 0,
    /// 32-bit float.
    F32 = 1,
    /// 64-bit float.
    F64 = 2,
    /// Unsigned byte.
    U8 = 3,
    /// 32-bit integer.
    I32 = 4,
    /// 64-bit integer.
    I64 = 5,
}

impl TensorType {
    /// The type with this number in wasi-nn 0.6.
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::F16,
            1 => Self::F32,
            2 => Self::F64,
            3 => Self::U8,
            4 => Self::I32,
            5 => Self::I64,
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}
