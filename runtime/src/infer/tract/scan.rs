//! A look at what a model claims, before anything is made of it.
//!
//! A few bytes can ask for terabytes: dimensions of a weight, the shape that a constant is filled to. tract works such things
//! out while it looks for shapes, before there is a graph that could be checked. What is found here is refused with a
//! sentence; what is not is left to the address-space limit of the worker, and costs the guest its worker.

use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use super::{InferError, TENSOR};

/// Nodes of a model, those of graphs inside of it included.
const MAX_NODES: usize = 100_000;
/// Graphs inside of graphs.
const MAX_DEPTH: usize = 8;

/// Operators that fill a tensor to a shape, and which of their inputs says the shape.
const FILLING: [(&str, usize); 4] = [("ConstantOfShape", 0), ("Expand", 1), ("Tile", 1), ("Resize", 3)];

/// Refuses a model with too many nodes, or with a tensor that is said to be above `limit` bytes.
pub(super) fn scan(name: &str, model: &ModelProto, limit: usize) -> Result<(), InferError> {
    let mut scan = Scan { name, limit, nodes: 0 };
    model.graph.iter().try_for_each(|graph| scan.graph(graph, 0))
}

struct Scan<'a> {
    name: &'a str,
    limit: usize,
    nodes: usize,
}

impl Scan<'_> {
    fn graph(&mut self, graph: &GraphProto, depth: usize) -> Result<(), InferError> {
        self.nodes = self.nodes.saturating_add(graph.node.len());
        if self.nodes > MAX_NODES {
            return Err(self.refused(format!("it has more than {MAX_NODES} nodes")));
        }
        if depth > MAX_DEPTH {
            return Err(self.refused(format!("it has graphs inside of graphs, more than {MAX_DEPTH} deep")));
        }
        graph.initializer.iter().try_for_each(|tensor| self.size(&tensor.dims))?;
        for node in &graph.node {
            self.filling(node, graph)?;
            node.attribute.iter().try_for_each(|attribute| self.attribute(attribute, depth))?;
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: &AttributeProto, depth: usize) -> Result<(), InferError> {
        let tensors = attribute.t.iter().chain(&attribute.tensors);
        tensors.map(|tensor| &tensor.dims).try_for_each(|dims| self.size(dims))?;
        attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.graph(graph, depth + 1))
    }

    /// The shape to which an operator fills a tensor, where it stands in the model.
    fn filling(&self, node: &NodeProto, graph: &GraphProto) -> Result<(), InferError> {
        let Some((_, input)) = FILLING.iter().find(|(operator, _)| *operator == node.op_type) else { return Ok(()) };
        let Some(shape) = node.input.get(*input).filter(|shape| !shape.is_empty()) else { return Ok(()) };
        let weight = graph.initializer.iter().find(|tensor| tensor.name == *shape);
        let maker = || graph.node.iter().find(|node| node.op_type == "Constant" && node.output.contains(shape));
        let constant = || maker()?.attribute.iter().find_map(|attribute| attribute.t.as_ref());
        weight.or_else(constant).map_or(Ok(()), |tensor| self.size(&integers(tensor)))
    }

    /// Dimensions whose product is above the limit. An element is a byte at least.
    fn size(&self, dims: &[i64]) -> Result<(), InferError> {
        let known = dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(1));
        let bytes = known.fold(1_usize, usize::saturating_mul);
        if bytes > self.limit {
            let name = self.name.to_owned();
            return Err(InferError::TooLarge { name, what: TENSOR, bytes, limit: self.limit });
        }
        Ok(())
    }

    fn refused(&self, reason: String) -> InferError {
        InferError::Load { name: self.name.to_owned(), reason }
    }
}

/// The 64-bit integers of a tensor, whichever way they are written.
fn integers(tensor: &TensorProto) -> Vec<i64> {
    if tensor.raw_data.is_empty() {
        return tensor.int64_data.clone();
    }
    tensor.raw_data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}
