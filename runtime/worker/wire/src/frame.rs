//! Frames: a 32-byte header, a `postcard` head, a raw payload.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic `MGRW` |
//! | 4..6 | protocol, `u16` |
//! | 6..8 | kind, `u16`: 1 to the worker, 2 from it |
//! | 8..16 | id, `u64`: chosen by the server, echoed by every answer |
//! | 16..24 | payload length, `u64` |
//! | 24..28 | head length, `u32` |
//! | 28..32 | reserved, zero |
//!
//! All numbers are little-endian. [`blocking`] is the worker's codec, [`stream`] the server's.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{FromWorker, PROTOCOL, ToWorker};

pub mod blocking;
pub mod stream;

/// Bytes of a header.
pub const HEADER_LEN: usize = 32;

/// Longest head, bytes: a head is a few names and numbers, so anything longer is garbage.
pub const MAX_HEAD_LEN: u32 = 64 * 1024;

/// Longest payload, bytes: 256 rows of 3 × 512 × 512 floats fit four times over; a wrong length must not exhaust memory.
pub const MAX_PAYLOAD_LEN: u64 = 1024 * 1024 * 1024;

const MAGIC: [u8; 4] = *b"MGRW";

/// Direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// The head is a [`ToWorker`].
    ToWorker = 1,
    /// The head is a [`FromWorker`].
    FromWorker = 2,
}

/// A message that travels as a head.
pub trait Head: Serialize + DeserializeOwned {
    /// The kind of frame that carries it.
    const KIND: Kind;
}

impl Head for ToWorker {
    const KIND: Kind = Kind::ToWorker;
}

impl Head for FromWorker {
    const KIND: Kind = Kind::FromWorker;
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Direction.
    pub kind: Kind,
    /// Which request it is or answers.
    pub id: u64,
    /// Bytes of the head.
    pub head_len: u32,
    /// Bytes of the payload.
    pub payload_len: u64,
}

impl Header {
    /// As it travels.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&PROTOCOL.to_le_bytes());
        bytes[6..8].copy_from_slice(&(self.kind as u16).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.head_len.to_le_bytes());
        bytes
    }

    /// Reads a header of frames of `kind`.
    ///
    /// # Errors
    /// Whatever is wrong first: magic, version, kind, reserved bytes, a length over its limit.
    pub fn decode(bytes: &[u8; HEADER_LEN], kind: Kind) -> Result<Header, FrameError> {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let int = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(int(at)) | u64::from(int(at + 4)) << 32;
        if bytes[0..4] != MAGIC {
            return Err(FrameError::Magic { found: int(0) });
        }
        if word(4) != PROTOCOL {
            return Err(FrameError::Version { found: word(4) });
        }
        if word(6) != kind as u16 || int(28) != 0 {
            return Err(FrameError::Kind { found: word(6) });
        }
        let header = Header { kind, id: long(8), head_len: int(24), payload_len: long(16) };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), FrameError> {
        if self.head_len > MAX_HEAD_LEN {
            return Err(FrameError::HeadTooLong { len: self.head_len.into() });
        }
        if self.payload_len > MAX_PAYLOAD_LEN {
            return Err(FrameError::PayloadTooLong { len: self.payload_len });
        }
        Ok(())
    }
}

/// Header and head of a frame, in one piece; the payload follows them.
///
/// # Errors
/// A length over its limit.
pub fn encode<T: Head>(id: u64, message: &T, payload_len: u64) -> Result<Bytes, FrameError> {
    let mut bytes = postcard::to_extend(message, vec![0; HEADER_LEN])?;
    let head_len = bytes.len() - HEADER_LEN;
    let head_len = u32::try_from(head_len).map_err(|_| FrameError::HeadTooLong { len: head_len as u64 })?;
    let header = Header { kind: T::KIND, id, head_len, payload_len };
    header.check()?;
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    Ok(bytes.into())
}

fn decode_head<T: Head>(bytes: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        (_, rest) => Err(FrameError::HeadTail { len: rest.len() }),
    }
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not a frame at all.
    #[error("not a frame: it begins with {found:#010x}")]
    Magic {
        /// The first four bytes.
        found: u32,
    },
    /// The peer speaks another protocol.
    #[error("the peer speaks protocol {found}, this side {PROTOCOL}")]
    Version {
        /// The peer's protocol.
        found: u16,
    },
    /// A frame of the wrong direction, or reserved bytes in use.
    #[error("unexpected frame of kind {found}")]
    Kind {
        /// The kind.
        found: u16,
    },
    /// The head is over [`MAX_HEAD_LEN`].
    #[error("a head of {len} bytes is over the limit of {MAX_HEAD_LEN}")]
    HeadTooLong {
        /// Its length.
        len: u64,
    },
    /// The payload is over [`MAX_PAYLOAD_LEN`].
    #[error("a payload of {len} bytes is over the limit of {MAX_PAYLOAD_LEN}")]
    PayloadTooLong {
        /// Its length.
        len: u64,
    },
    /// The head is not the message it should be.
    #[error("unreadable head")]
    Head(#[from] postcard::Error),
    /// The head goes on after the message.
    #[error("{len} bytes after the message")]
    HeadTail {
        /// Bytes left over.
        len: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> FrameError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => FrameError::Truncated,
            _ => FrameError::Io(error),
        }
    }
}
