//! A new version every few seconds under load: no request fails, and every answer is that of the version it names, bit for bit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use migrator_models::{ModelSpec, reader::Row};
use migrator_wire::client::{SpawnOptions, Worker};
use migrator_wire::message::{FromWorker, ModelKey, ToWorker};

use crate::harness::{Pair, Raise, Server, World, bin, data, seconds};

const CLIENTS: usize = 8;
/// As many as the model takes at once, so that each request is a batch of its own: what else is in a batch changes how sums are split.
const ROWS: usize = 8;
const EVERY: Duration = Duration::from_secs(5);

/// What the version was called and what it answered.
type Answer = (u64, Vec<u8>);

/// Asks the same rows again and again, in the binary form.
fn ask(server: &Server, rows: &[Row], stop: &AtomicBool) -> Vec<Answer> {
    let raw: Vec<u8> = rows.iter().flat_map(|row| row.features.to_raw()).collect();
    let head = serde_json::json!({
        "inputs": [{ "name": "INPUT0", "shape": [ROWS, data::FEATURES], "datatype": "FP32", "parameters": { "binary_data_size": raw.len() } }],
        "outputs": [{ "name": "OUTPUT0", "parameters": { "binary_data": true } }],
    })
    .to_string();
    let body = [head.as_bytes(), &raw].concat();
    let headers = [("Inference-Header-Content-Length", head.len().to_string())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let reply = server.http.post_with("/v2/models/digits/infer", &headers, &body);
        assert_eq!(reply.status, 200, "request {}: {}", answers.len(), reply.text());
        let (json, output) = reply.body.split_at(reply.json_len.expect("a binary answer"));
        let version = serde_json::from_slice::<serde_json::Value>(json).unwrap()["model_version"].as_str().unwrap().parse().unwrap();
        answers.push((version, output.to_vec()));
    }
    answers
}

/// What a worker of its own answers with each version.
fn reference(world: &World, spec: &ModelSpec, versions: &[u64], rows: &[Vec<Row>]) -> BTreeMap<(u64, usize), Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (worker, _exit) = Worker::spawn(SpawnOptions::new(bin("migrator-worker"), "reference")).await.unwrap();
        let mut found = BTreeMap::new();
        for version in versions {
            let key = ModelKey(*version as u32);
            let folder = world.store().folder("tiny", *version).unwrap();
            worker.call(ToWorker::Load { key, spec: spec.clone(), folder, warm: vec![] }, Vec::new()).await.unwrap();
            for (client, rows) in rows.iter().enumerate() {
                let raw: Bytes = rows.iter().flat_map(|row| row.features.to_raw()).collect::<Vec<u8>>().into();
                let infer = ToWorker::Infer { key, rows: ROWS as u32, inputs: vec![raw.len() as u64] };
                let (FromWorker::Inferred { .. }, output) = worker.call(infer, vec![raw]).await.unwrap() else { panic!("no answer") };
                found.insert((*version, client), output.to_vec());
            }
        }
        worker.shutdown(Duration::from_secs(5)).await;
        found
    })
}

/// `MIGRATOR_HOT_SWAP_S` seconds, 16 if not told.
#[test]
#[allow(clippy::disallowed_methods, reason = "a version every few seconds is what is tried; nothing is concluded from the time")]
fn every_answer_is_bit_for_bit_that_of_the_version_it_names() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    let rows: Vec<Vec<Row>> = (0..CLIENTS).map(|client| data::readings(ROWS, 0, 500 + client as u64).rows).collect();
    let (stop, began, span) = (AtomicBool::new(false), Instant::now(), seconds("MIGRATOR_HOT_SWAP_S", 16));
    let answers: Vec<Vec<Answer>> = std::thread::scope(|scope| {
        let clients: Vec<_> = rows.iter().map(|rows| scope.spawn(|| ask(&server, rows, &stop))).collect();
        {
            let _stop = Raise(&stop);
            let mut next = 1;
            while began.elapsed() < span {
                std::thread::sleep(Duration::from_millis(100));
                if began.elapsed() >= EVERY * next {
                    world.train("digits", &data::readings(200, 0, 40 + u64::from(next)));
                    let loaded = server.http.post("/v2/repository/models/digits/load", "{}");
                    assert_eq!(loaded.status, 200, "{}", loaded.text());
                    next += 1;
                }
            }
        }
        clients.into_iter().map(|client| client.join().expect("a request failed")).collect()
    });
    let versions = world.store().versions("tiny").unwrap();
    let right = reference(&world, &world.store().manifest("tiny", 1).unwrap().spec, &versions, &rows);
    let mut by_version = BTreeMap::<u64, u64>::new();
    for (client, answers) in answers.iter().enumerate() {
        for (version, output) in answers {
            assert!(right[&(*version, client)] == *output, "client {client}: an answer is not that of version {version}");
            *by_version.entry(*version).or_default() += 1;
        }
    }
    println!("{CLIENTS} clients, {span:?}: answers by version {by_version:?}, none failed, all bit-exact");
    assert_eq!(by_version.keys().copied().collect::<Vec<_>>(), versions, "a version never answered: {by_version:?}");
    // Else the comparison could not fail.
    let different = versions.windows(2).all(|pair| right[&(pair[0], 0)] != right[&(pair[1], 0)]);
    assert!(different, "two versions answer the same");
    assert_eq!((server.tenant("digits")["error"].clone(), server.tenant("digits")["shed"].clone()), (0.into(), 0.into()));
}
