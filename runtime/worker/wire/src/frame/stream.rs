//! The server's codec: tokio, vectored writes, answers as shared [`Bytes`].

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{FrameError, HEADER_LEN, Head, Header, decode_head, encode};

/// Reads frames; wrap the stream in a `BufReader`, so that a small frame costs one system call.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    head: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Over a stream that stands at the beginning of a frame.
    pub fn new(stream: R) -> FrameReader<R> {
        FrameReader { stream, head: Vec::new() }
    }

    /// The next frame; `None` when the stream ended between frames. Not safe to cancel.
    ///
    /// # Errors
    /// The stream holds no frame of `T`; nothing can be read after that.
    pub async fn read<T: Head>(&mut self) -> Result<Option<(u64, T, Bytes)>, FrameError> {
        let mut bytes = [0; HEADER_LEN];
        let first = self.stream.read(&mut bytes).await?;
        if first == 0 {
            return Ok(None);
        }
        self.stream.read_exact(&mut bytes[first..]).await?;
        let header = Header::decode(&bytes, T::KIND)?;
        self.head.resize(header.head_len as usize, 0);
        self.stream.read_exact(&mut self.head).await?;
        let message = decode_head(&self.head)?;
        let payload = self.payload(header.payload_len as usize).await?;
        Ok(Some((header.id, message, payload)))
    }

    /// Reads into uninitialised memory of just the right size, so that slices of it can be handed out without a copy.
    async fn payload(&mut self, len: usize) -> Result<Bytes, FrameError> {
        let mut buffer = BytesMut::with_capacity(len).limit(len);
        while buffer.has_remaining_mut() {
            if self.stream.read_buf(&mut buffer).await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        Ok(buffer.into_inner().freeze())
    }
}

/// Frames waiting to be written: a list of slices that are neither joined nor copied.
#[derive(Debug, Default)]
pub struct Rope {
    parts: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    /// Appends a frame.
    ///
    /// # Errors
    /// A length over its limit; nothing is appended.
    pub fn push<T: Head>(&mut self, id: u64, message: &T, payload: Vec<Bytes>) -> Result<(), FrameError> {
        let len: u64 = payload.iter().map(|part| part.len() as u64).sum();
        let start = encode(id, message, len)?;
        self.len += start.len() + len as usize;
        self.parts.push_back(start);
        self.parts.extend(payload.into_iter().filter(|part| !part.is_empty()));
        Ok(())
    }

    /// Appends all of another rope.
    pub fn append(&mut self, mut other: Rope) {
        self.len += other.len;
        self.parts.append(&mut other.parts);
    }

    /// Writes it all, up to 64 slices by one system call.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn write_to<W: AsyncWrite + Unpin>(&mut self, stream: &mut W) -> Result<(), FrameError> {
        Ok(stream.write_all_buf(self).await?)
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        slices.iter_mut().zip(&self.parts).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut by: usize) {
        self.len -= by;
        while let Some(part) = self.parts.front_mut() {
            if by < part.len() {
                part.advance(by);
                return;
            }
            by -= part.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FromWorker;

    #[test]
    fn a_payload_goes_to_the_socket_from_where_it_lies() {
        let parts = [Bytes::from(vec![1; 1 << 20]), Bytes::new(), Bytes::from(vec![2; 10])];
        let mut rope = Rope::default();
        rope.push(1, &FromWorker::Done, parts.to_vec()).unwrap();
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(rope.chunks_vectored(&mut slices), 3, "header and head, and the two parts that hold something");
        assert_eq!((slices[1].as_ptr(), slices[2].as_ptr()), (parts[0].as_ptr(), parts[2].as_ptr()));
    }

    #[test]
    fn a_short_write_goes_on_where_it_stopped() {
        let mut rope = Rope::default();
        rope.push(1, &FromWorker::Done, vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defg")]).unwrap();
        let whole = rope.len;
        rope.advance(whole - 5);
        assert_eq!((rope.remaining(), rope.chunk()), (5, &b"c"[..]));
        rope.advance(3);
        assert_eq!((rope.remaining(), rope.chunk()), (2, &b"fg"[..]));
        rope.advance(2);
        assert!(!rope.has_remaining());
    }
}
