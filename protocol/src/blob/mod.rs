//! Blobs: content that is pulled in chunks.
//!
//! A blob is a target's content. It is cut by content ([`cut()`], on the operator's side), so that a new version shares chunks
//! with the old. `blob/{sha256}` carries the [`BlobIndex`], `chunk/{sha256}` one chunk each, encoded.
//!
//! What is signed is the blob's length and SHA-256. Index and chunks are not: an index is held to the signed length and to
//! the limits below, a chunk to the index, and the whole to its digest before any use. A false index therefore costs no more than
//! the download, and memory stays bounded whatever arrives. A chunk's digest is that of its content, not of the message.

mod chunk;
#[cfg(feature = "author")]
mod cut;
pub(crate) mod frame;
mod index;

#[cfg(feature = "author")]
pub use chunk::encode_chunk;
pub use chunk::{ChunkDecoder, ChunkError, MAX_CHUNK_MESSAGE_LEN};
#[cfg(feature = "author")]
pub use cut::cut;
pub use index::{BlobIndex, ChunkRef, IndexError, MAX_CHUNKS, MAX_INDEX_LEN};

/// The shortest chunk in bytes; only the last of a blob may be shorter.
pub const MIN_CHUNK_LEN: u32 = 8 * 1024;
/// The longest chunk in bytes.
pub const MAX_CHUNK_LEN: u32 = 64 * 1024;
