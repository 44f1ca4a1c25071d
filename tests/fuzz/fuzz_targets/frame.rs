//! Frames between server and worker: both codecs read the same from the same bytes, and what they read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use migrator_wire::frame::{HEADER_LEN, Head, Header, blocking, stream};
use migrator_wire::{FromWorker, ToWorker};
use std::fmt::Debug;

fuzz_target!(|data: &[u8]| {
    frames::<ToWorker>(data);
    frames::<FromWorker>(data);
});

fn frames<T: Head + Debug>(data: &[u8]) {
    if let Some(Ok(header)) = data.first_chunk::<HEADER_LEN>().map(|bytes| Header::decode(bytes, T::KIND)) {
        assert_eq!(header.encode(), data[..HEADER_LEN], "what is accepted is what would be written");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut worker, mut server) = (blocking::FrameReader::new(data), stream::FrameReader::new(data));
    loop {
        let (ours, theirs) = (worker.read::<T>(), runtime.block_on(server.read::<T>()));
        match (ours, theirs) {
            (Ok(Some((id, message, payload))), Ok(Some((other, same, bytes)))) => {
                assert_eq!((id, text(&message), &payload[..]), (other, text(&same), &bytes[..]));
                again(id, &message, &payload);
            }
            (Ok(None), Ok(None)) => return,
            (Err(ours), Err(theirs)) => {
                assert_eq!(text(&ours), text(&theirs));
                return;
            }
            (ours, theirs) => panic!("{:?} and {:?}", ours.map(|_| ()), theirs.map(|_| ())),
        }
    }
}

fn again<T: Head + Debug>(id: u64, message: &T, payload: &[u8]) {
    let mut written = Vec::new();
    blocking::FrameWriter::new(&mut written).write(id, message, &[payload]).expect("what was read can be written");
    let (other, same, bytes) = blocking::FrameReader::new(&written[..]).read::<T>().expect("a frame").expect("a frame");
    assert_eq!((id, text(message), payload), (other, text(&same), &bytes[..]));
}

/// NaN equals itself as text.
fn text(value: &impl Debug) -> String {
    format!("{value:?}")
}
