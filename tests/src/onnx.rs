//! ONNX models that are costly, written as protobuf by hand (onnx/onnx.proto): small files that keep a processor or the memory busy.

/// Multiplies a matrix of `side` by `side` with itself so many times when it is run. It takes a column of `side` numbers.
pub fn slow_to_run(side: u32, times: u32) -> Vec<u8> {
    let first = vec![node("Transpose", &["column"], "row"), matmul("column", "row", "spread")];
    model(&squares(first, "spread", times), &value("last", &[side, side]), side)
}

/// Multiplies a constant of `side` by `side`, which takes a small file to claim, with a column.
pub fn large_constant(side: u32) -> Vec<u8> {
    let nodes = [shape(side), zeros("shape", "spread"), matmul("spread", "column", "result")];
    model(&nodes, &value("result", &[side, 1]), side)
}

/// The nodes of `first`, and then a chain of multiplications from the value `from` to `last`.
fn squares(first: Vec<Vec<u8>>, from: &str, times: u32) -> Vec<Vec<u8>> {
    let mut nodes = first;
    let mut value = from.to_owned();
    for number in 1..=times {
        let next = if number == times { "last".to_owned() } else { format!("v{number}") };
        nodes.push(matmul(&value, &value, &next));
        value = next;
    }
    nodes
}

fn matmul(left: &str, right: &str, output: &str) -> Vec<u8> {
    node("MatMul", &[left, right], output)
}

/// A `Constant`: the shape `side` by `side`.
fn shape(side: u32) -> Vec<u8> {
    let dims: Vec<u8> = [i64::from(side), i64::from(side)].into_iter().flat_map(i64::to_le_bytes).collect();
    // A TensorProto: its dims, INT64, the data; and an AttributeProto that holds it.
    let tensor = [number(1, 2), number(2, 7), bytes(9, &dims)].concat();
    let attribute = [bytes(1, b"value"), bytes(5, &tensor), number(20, 4)].concat();
    [bytes(2, b"shape"), bytes(4, b"Constant"), bytes(5, &attribute)].concat()
}

/// A `ConstantOfShape`: zeros of f32, which tract takes for f64 where no value says so.
fn zeros(shape: &str, output: &str) -> Vec<u8> {
    let tensor = [number(1, 1), number(2, 1), bytes(9, &[0; 4])].concat();
    let attribute = [bytes(1, b"value"), bytes(5, &tensor), number(20, 4)].concat();
    [node("ConstantOfShape", &[shape], output), bytes(5, &attribute)].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
    node.extend(bytes(2, output.as_bytes()));
    node.extend(bytes(4, operator.as_bytes()));
    node
}

/// A model with one input `column` of `side` by 1.
fn model(nodes: &[Vec<u8>], output: &[u8], side: u32) -> Vec<u8> {
    let mut graph: Vec<u8> = nodes.iter().flat_map(|node| bytes(1, node)).collect();
    graph.extend(bytes(2, b"costly"));
    graph.extend(bytes(11, &value("column", &[side, 1])));
    graph.extend(bytes(12, output));
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

/// A ValueInfoProto of f32.
fn value(name: &str, dims: &[u32]) -> Vec<u8> {
    let shape: Vec<u8> = dims.iter().flat_map(|dim| bytes(1, &number(1, u64::from(*dim)))).collect();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}
