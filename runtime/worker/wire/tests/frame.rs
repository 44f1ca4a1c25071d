//! Both codecs agree, for any frame and any garbage.
#![allow(clippy::unwrap_used, reason = "clippy sees #[test] functions as tests, their helpers not")]

use std::path::PathBuf;

use bytes::Bytes;
use migrator_models::{Architecture, Course, Microprofile, ModelSpec, Source, TrainSpec};
use migrator_wire::frame::blocking::{self, ALIGN};
use migrator_wire::frame::stream::{self, Rope};
use migrator_wire::frame::{HEADER_LEN, Header, Kind, MAX_HEAD_LEN, MAX_PAYLOAD_LEN};
use migrator_wire::message::{MicroprofileJob, Moved};
use migrator_wire::{FailCode, FrameError, FromWorker, ModelKey, ToWorker, TrainJob};
use proptest::collection::vec;
use proptest::prelude::*;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn spec(name: String) -> ModelSpec {
    let architecture = Architecture::Mlp { features: 4, hidden: vec![8, 8] };
    ModelSpec { name, classes: 3, max_batch: 16, precision: Default::default(), source: Source::Architecture { architecture } }
}

fn to_worker() -> impl Strategy<Value = ToWorker> {
    let key = any::<u32>().prop_map(ModelKey);
    let path = "[a-z/]{0,20}".prop_map(PathBuf::from);
    prop_oneof![
        any::<u16>().prop_map(|protocol| ToWorker::Hello { protocol }),
        Just(ToWorker::Prepare),
        ("(MIG|GPU)-[0-9a-f-]{36}", 0.0..7.0).prop_map(|(visible, share)| ToWorker::Attach { visible, share }),
        any::<u32>().prop_map(|executors| ToWorker::Limit { executors }),
        (key.clone(), ".{0,9}", path.clone(), vec(any::<u32>(), 0..9)).prop_map(|(key, name, folder, warm)| ToWorker::Load {
            key,
            spec: spec(name),
            folder,
            warm
        }),
        (key, any::<u32>(), vec(any::<u64>(), 0..4)).prop_map(|(key, rows, inputs)| ToWorker::Infer { key, rows, inputs }),
        (path.clone(), proptest::option::of(path), any::<u64>()).prop_map(|(path, base, seed)| {
            let train = TrainSpec { seed, ..TrainSpec::default() };
            let (dataset, checkpoint, out) = (path.clone(), path.clone(), path);
            ToWorker::Train(TrainJob { spec: spec("m".into()), base, dataset, train, checkpoint, out })
        }),
        ("[a-z/]{0,20}", vec(any::<u64>(), 0..4)).prop_map(|(path, seeds)| {
            let path = PathBuf::from(path);
            let tries = seeds.into_iter().map(|seed| TrainSpec { seed, ..TrainSpec::default() }).collect();
            ToWorker::Microprofile(MicroprofileJob { spec: spec("m".into()), base: None, dataset: path.clone(), tries, scratch: path })
        }),
        any::<u64>().prop_map(|train| ToWorker::Pause { train }),
        Just(ToWorker::Shutdown),
    ]
}

fn from_worker() -> impl Strategy<Value = FromWorker> {
    prop_oneof![
        (any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(rows, compute_us, ended_us)| FromWorker::Inferred {
            rows,
            compute_us,
            ended_us
        }),
        (0.0..1.0, any::<u64>(), vec((vec(0.0..1.0, 0..5), any::<u64>(), 0.0..1.0), 0..3)).prop_map(|(before, held_out, courses)| {
            let courses = courses.into_iter().map(|(accuracy, samples, sample_s)| Course { accuracy, samples, sample_s }).collect();
            FromWorker::Microprofiled(Microprofile { before, held_out, courses, measure_s: before, core_s: before })
        }),
        (any::<u64>(), any::<u64>(), -1e9f32..1e9, 0.0..1e9).prop_map(|(step, steps, loss, core_s)| FromWorker::Progress {
            step,
            steps,
            loss,
            core_s
        }),
        (".{0,40}", vec((any::<u32>(), vec((any::<u32>(), 0.0..1e3), 0..9)), 0..3), any::<u64>()).prop_map(
            |(device, models, memory_mib)| {
                let moved = |(key, timings)| Moved { key: ModelKey(key), copy_ms: 2.0, warm_ms: 3.0, timings };
                let models = models.into_iter().map(moved).collect();
                FromWorker::Attached { device, libraries_ms: 0.5, context_ms: 1.0, models, memory_mib }
            }
        ),
        ".{0,200}".prop_map(|message| FromWorker::Failed { code: FailCode::BadModel, message }),
        Just(FromWorker::Failed { code: FailCode::NoDevice, message: "no driver".into() }),
        Just(FromWorker::Done),
    ]
}

/// What the worker's codec writes.
fn written(id: u64, message: &FromWorker, payload: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    blocking::FrameWriter::new(&mut bytes).write(id, message, payload).unwrap();
    bytes
}

proptest! {
    #[test]
    fn the_worker_reads_what_the_server_writes(frames in vec((any::<u64>(), to_worker(), vec(vec(any::<u8>(), 0..300), 0..80)), 1..5)) {
        let mut rope = Rope::default();
        for (id, message, parts) in &frames {
            rope.push(*id, message, parts.iter().cloned().map(Bytes::from).collect()).unwrap();
        }
        let mut bytes = Vec::new();
        block_on(rope.write_to(&mut bytes)).unwrap();
        let mut reader = blocking::FrameReader::new(&bytes[..]);
        for (id, message, parts) in frames {
            let (got_id, got, payload) = reader.read::<ToWorker>().unwrap().unwrap();
            prop_assert_eq!((got_id, got), (id, message));
            prop_assert_eq!(&*payload, parts.concat());
            prop_assert!(payload.is_empty() || payload.as_ptr().align_offset(ALIGN) == 0);
        }
        prop_assert!(reader.read::<ToWorker>().unwrap().is_none());
    }

    #[test]
    fn the_server_reads_what_the_worker_writes(id: u64, message in from_worker(), parts in vec(vec(any::<u8>(), 0..300), 0..5)) {
        let bytes = written(id, &message, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut reader = stream::FrameReader::new(&bytes[..]);
        let (got_id, got, payload) = block_on(reader.read::<FromWorker>()).unwrap().unwrap();
        prop_assert_eq!((got_id, got), (id, message));
        prop_assert_eq!(&*payload, parts.concat());
        prop_assert!(block_on(reader.read::<FromWorker>()).unwrap().is_none());
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(start in prop_oneof![Just(&b""[..]), Just(&b"MGRW\x01\x00\x01\x00"[..])], rest in vec(any::<u8>(), 0..200)) {
        let bytes = [start, &rest].concat();
        let blocking = blocking::FrameReader::new(&bytes[..]).read::<ToWorker>().map(|frame| frame.is_some());
        let stream = block_on(stream::FrameReader::new(&bytes[..]).read::<ToWorker>()).map(|frame| frame.is_some());
        match (blocking, stream) {
            (Ok(a), Ok(b)) => prop_assert_eq!(a, b),
            (Err(a), Err(b)) => prop_assert_eq!(a.to_string(), b.to_string()),
            (a, b) => prop_assert!(false, "{a:?} and {b:?}"),
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_truncated(cut in 0.0..1.0, len in 0usize..100) {
        let bytes = written(1, &FromWorker::Done, &[&vec![7; len]]);
        let cut = 1 + (cut * (bytes.len() - 1) as f64) as usize;
        prop_assume!(cut < bytes.len());
        let read = block_on(stream::FrameReader::new(&bytes[..cut]).read::<FromWorker>());
        prop_assert!(matches!(read, Err(FrameError::Truncated)));
    }
}

#[test]
fn what_is_wrong_with_a_header_is_said() {
    let header = Header { kind: Kind::ToWorker, id: u64::MAX, head_len: MAX_HEAD_LEN, payload_len: MAX_PAYLOAD_LEN };
    assert_eq!(Header::decode(&header.encode(), Kind::ToWorker).unwrap(), header);
    let decode = |at: usize, byte: u8| {
        let mut bytes: [u8; HEADER_LEN] = header.encode();
        bytes[at] = byte;
        Header::decode(&bytes, Kind::ToWorker).unwrap_err()
    };
    assert!(matches!(decode(0, b'H'), FrameError::Magic { .. }));
    assert!(matches!(decode(4, 9), FrameError::Version { found: 9 }));
    assert!(matches!(decode(6, 2), FrameError::Kind { found: 2 }));
    assert!(matches!(decode(31, 1), FrameError::Kind { .. }));
    assert!(matches!(decode(24, 1), FrameError::HeadTooLong { .. }));
    assert!(matches!(decode(16, 1), FrameError::PayloadTooLong { .. }));
}
