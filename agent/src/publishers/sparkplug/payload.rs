//! The payload of Sparkplug B as protobuf: of `sparkplug_b.proto` (Eclipse Tahu) the fields that an edge node without data sets,
//! templates and properties needs. Unknown fields are skipped, as protobuf has it.

use prost::{Message, Oneof};

/// `Payload`.
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// Unix milliseconds.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// What is told.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// 0 to 255, in turn.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
}

/// `Payload.Metric`.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Given at the birth.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Stands for the name afterwards.
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    /// Unix milliseconds.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// `DataType`.
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// The value.
    #[prost(oneof = "Value", tags = "10, 11, 12, 13, 14, 15")]
    pub value: Option<Value>,
}

/// `Payload.Metric.value`.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// `int_value`.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// `long_value`.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// `float_value`.
    #[prost(float, tag = "12")]
    Float(f32),
    /// `double_value`.
    #[prost(double, tag = "13")]
    Double(f64),
    /// `boolean_value`.
    #[prost(bool, tag = "14")]
    Boolean(bool),
    /// `string_value`.
    #[prost(string, tag = "15")]
    Text(String),
}

impl Value {
    /// `DataType`: UInt32, UInt64, Float, Double, Boolean, String.
    pub(super) const fn datatype(&self) -> u32 {
        match self {
            Self::Int(_) => 7,
            Self::Long(_) => 8,
            Self::Float(_) => 9,
            Self::Double(_) => 10,
            Self::Boolean(_) => 11,
            Self::Text(_) => 12,
        }
    }
}
