//! The worker's codec: blocking, payloads read straight into buffers aligned for tensors.

use std::io::{self, IoSlice, Read, Write};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use super::{FrameError, HEADER_LEN, Head, Header, decode_head, encode};

/// Alignment of a payload, bytes: a cache line, and the widest vector load.
pub const ALIGN: usize = 64;

/// Buffers kept for reuse, and the most bytes of one that is kept.
const POOLED: usize = 16;
const POOLED_LEN: usize = 16 * 1024 * 1024;

/// Reads frames of `T`.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    head: Vec<u8>,
    pool: Pool,
}

impl<R: Read> FrameReader<R> {
    /// Over a stream that stands at the beginning of a frame.
    pub fn new(stream: R) -> FrameReader<R> {
        FrameReader { stream, head: Vec::new(), pool: Pool::default() }
    }

    /// The next frame; `None` when the stream ended between frames.
    ///
    /// # Errors
    /// The stream holds no frame of `T`; nothing can be read after that.
    pub fn read<T: Head>(&mut self) -> Result<Option<(u64, T, Payload)>, FrameError> {
        let mut bytes = [0; HEADER_LEN];
        if !fill(&mut self.stream, &mut bytes)? {
            return Ok(None);
        }
        let header = Header::decode(&bytes, T::KIND)?;
        self.head.resize(header.head_len as usize, 0);
        self.stream.read_exact(&mut self.head)?;
        let message = decode_head(&self.head)?;
        let mut payload = self.pool.take(header.payload_len as usize);
        self.stream.read_exact(&mut payload)?;
        Ok(Some((header.id, message, payload)))
    }
}

/// Reads all of `bytes`; false when the stream ended before the first of them.
fn fill(stream: &mut impl Read, bytes: &mut [u8]) -> Result<bool, FrameError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match stream.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Writes frames, header, head and payload by one system call where the socket has room.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
}

impl<W: Write> FrameWriter<W> {
    /// Over a stream.
    pub fn new(stream: W) -> FrameWriter<W> {
        FrameWriter { stream }
    }

    /// Writes one frame; the parts of the payload are not copied.
    ///
    /// # Errors
    /// A length over its limit (nothing is written), or the socket failed.
    pub fn write<T: Head>(&mut self, id: u64, message: &T, payload: &[&[u8]]) -> Result<(), FrameError> {
        let len = payload.iter().map(|part| part.len() as u64).sum();
        let start = encode(id, message, len)?;
        let mut parts: Vec<IoSlice<'_>> = std::iter::once(&*start).chain(payload.iter().copied()).map(IoSlice::new).collect();
        let mut rest = &mut parts[..];
        // Advancing by nothing skips empty parts, so that a write of 0 always means a closed stream.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.stream.write_vectored(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(n) => IoSlice::advance_slices(&mut rest, n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.stream.flush()?)
    }
}

/// A payload, aligned to [`ALIGN`] bytes; its memory is used again by later ones.
#[derive(Debug)]
pub struct Payload {
    storage: Vec<u8>,
    start: usize,
    len: usize,
    pool: Pool,
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl DerefMut for Payload {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < POOLED && (1..=POOLED_LEN).contains(&self.storage.len()) {
            free.push(std::mem::take(&mut self.storage));
        }
    }
}

/// Buffers of payloads that are done with.
#[derive(Clone, Debug, Default)]
struct Pool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Pool {
    /// A buffer of `len` bytes of any content. It is over-allocated by one alignment, so that no unsafe allocation is needed.
    fn take(&self, len: usize) -> Payload {
        if len == 0 {
            return Payload { storage: Vec::new(), start: 0, len, pool: self.clone() };
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = free.iter().position(|storage| storage.len() >= len + ALIGN);
        let storage = fits.map(|at| free.swap_remove(at)).unwrap_or_else(|| {
            free.pop();
            vec![0; (len + ALIGN).next_multiple_of(4096)]
        });
        let start = storage.as_ptr().align_offset(ALIGN);
        Payload { storage, start, len, pool: self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FromWorker, ToWorker};

    #[test]
    fn a_payload_is_aligned_and_its_memory_is_used_again() {
        let pool = Pool::default();
        let first = pool.take(1000);
        let place = first.as_ptr();
        assert_eq!((place.align_offset(ALIGN), first.len()), (0, 1000));
        drop(first);
        let second = pool.take(500);
        assert_eq!((second.as_ptr(), second.len()), (place, 500));
    }

    #[test]
    fn an_end_between_frames_is_none_and_inside_one_is_an_error() {
        let mut bytes = Vec::new();
        FrameWriter::new(&mut bytes).write(7, &FromWorker::Done, &[b"abc", b"", b"de"]).unwrap();
        let mut reader = FrameReader::new(&bytes[..]);
        let (id, message, payload) = reader.read::<FromWorker>().unwrap().unwrap();
        assert_eq!((id, message, &*payload), (7, FromWorker::Done, &b"abcde"[..]));
        assert!(reader.read::<FromWorker>().unwrap().is_none());
        for cut in 1..bytes.len() {
            assert!(matches!(FrameReader::new(&bytes[..cut]).read::<FromWorker>(), Err(FrameError::Truncated)), "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_of_the_wrong_direction_is_refused() {
        let mut bytes = Vec::new();
        FrameWriter::new(&mut bytes).write(7, &FromWorker::Done, &[]).unwrap();
        assert!(matches!(FrameReader::new(&bytes[..]).read::<ToWorker>(), Err(FrameError::Kind { found: 2 })));
    }
}
