//! ONNX files, field by field (onnx.proto of ONNX 1.15), for what no library would write.

/// A message of protocol buffers, as its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// ONNX's number for 32-bit floats.
pub const FLOAT: u64 = 1;
/// ONNX's number for 64-bit integers.
pub const INT64: u64 = 7;
/// ONNX's number for texts.
pub const STRING: u64 = 8;

impl Message {
    /// Adds a number.
    pub fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    /// Adds bytes.
    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a text.
    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// Adds a message.
    pub fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// Adds messages.
    pub fn messages<'a>(self, field: u64, messages: impl IntoIterator<Item = &'a Self>) -> Self {
        messages.into_iter().fold(self, |whole, message| whole.message(field, message))
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A tensor of a type and a shape, without content.
pub fn tensor(name: &str, kind: u64, dims: &[i64]) -> Message {
    let shaped = dims.iter().fold(Message::default(), |tensor, dim| tensor.number(1, dim.cast_unsigned()));
    shaped.number(2, kind).text(8, name)
}

/// A tensor with its content.
pub fn filled(name: &str, kind: u64, dims: &[i64], content: &[u8]) -> Message {
    tensor(name, kind, dims).bytes(9, content)
}

/// A list of 64-bit numbers.
pub fn numbers(name: &str, values: &[i64]) -> Message {
    let content: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    filled(name, INT64, &[values.len() as i64], &content)
}

/// What an input or output is.
pub fn value(name: &str, kind: u64, dims: &[i64]) -> Message {
    let dim = |dim: &i64| Message::default().number(1, dim.cast_unsigned());
    let shape = Message::default().messages(1, &dims.iter().map(dim).collect::<Vec<_>>());
    let kind = Message::default().message(1, &Message::default().number(1, kind).message(2, &shape));
    Message::default().text(1, name).message(2, &kind)
}

/// A node.
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let read = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
    outputs.iter().fold(read, |node, output| node.text(2, output)).text(4, operator)
}

/// A list of numbers that belongs to a node.
pub fn ints(name: &str, values: &[i64]) -> Message {
    let list =
        values.iter().fold(Message::default().text(1, name), |list, value| list.number(8, value.cast_unsigned()));
    list.number(20, 7)
}

/// A node with attributes.
pub fn with(node: Message, attributes: &[Message]) -> Message {
    node.messages(5, attributes)
}

/// A graph.
pub fn graph(nodes: &[Message], weights: &[Message], inputs: &[Message], outputs: &[Message]) -> Message {
    let graph = Message::default().messages(1, nodes).text(2, "graph");
    graph.messages(5, weights).messages(11, inputs).messages(12, outputs)
}

/// A model of operator set 13.
pub fn model(graph: &Message) -> Vec<u8> {
    Message::default().number(1, 8).message(7, graph).message(8, &Message::default().number(2, 13)).0
}
