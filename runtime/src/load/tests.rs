//! The whole generator against a tiny server that answers, sheds, fails, hangs up or keeps silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use migrator_models::reader::{Features, LabelledSet, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What the server does with each request, by the first feature of the sample.
const ANSWER: f32 = 0.0;
const SHED: f32 = 1.0;
const FAIL: f32 = 2.0;
const HANG_UP: f32 = 3.0;
const SILENCE: f32 = 4.0;

/// A server on a free port; counts inference requests and labelled samples.
struct Server {
    url: String,
    inferred: Arc<AtomicU64>,
    labelled: Arc<AtomicU64>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start() -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (inferred, labelled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (inferred.clone(), labelled.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counters = counters.clone();
                tokio::spawn(async move { drop(serve(stream, &counters.0, &counters.1).await) });
            }
        });
        Server { url, inferred, labelled, _runtime: runtime }
    }
}

async fn serve(mut stream: TcpStream, inferred: &AtomicU64, labelled: &AtomicU64) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some((path, body)) = read_request(&mut stream, &mut buffer).await? else { return Ok(()) };
        let (status, answer) = match path.as_str() {
            "/v1/tenants" => (200, r#"{"uptime_s":1.0,"tenants":[]}"#.to_owned()),
            "/v2/models/t" => (200, r#"{"name":"t","inputs":[{"name":"INPUT0","datatype":"FP32","shape":[-1,2]}]}"#.to_owned()),
            "/v1/tenants/t" => (200, r#"{"name":"t","slo_ms":250.0}"#.to_owned()),
            "/v1/partition" => (200, HISTORY.to_owned()),
            "/v1/tenants/t/samples" => {
                labelled.fetch_add(body.matches("\"label\"").count() as u64, Ordering::Relaxed);
                (200, "{}".to_owned())
            }
            "/v2/models/t/infer" => {
                inferred.fetch_add(1, Ordering::Relaxed);
                let json: serde_json::Value = serde_json::from_str(&body).unwrap();
                let Some(answer) = infer(json["inputs"][0]["data"][0].as_f64().unwrap() as f32).await else { return Ok(()) };
                answer
            }
            _ => (404, r#"{"error":"not found"}"#.to_owned()),
        };
        stream.write_all(format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).as_bytes()).await?;
    }
}

/// One reconfiguration, 1.2 s after the server's start.
const HISTORY: &str = r#"{"gpus":[],"history":[{"generation":2,"at_s":1.2,"took_s":0.3,"lost_s":0.1,"idle_slice_s":0.2,"from":"a","to":"b","steps":[["drain",0.1]]}]}"#;

async fn infer(what: f32) -> Option<(u16, String)> {
    match what {
        ANSWER => Some((200, r#"{"outputs":[{"name":"OUTPUT0","data":[0.1,0.9]}]}"#.to_owned())),
        SHED => Some((503, r#"{"error":"shed"}"#.to_owned())),
        FAIL => Some((500, r#"{"error":"broken"}"#.to_owned())),
        SILENCE => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            None
        }
        _ => None,
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<(String, String)>> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(buffer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            return Ok(Some((head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())));
        }
    }
}

fn plan(server: &Server, whats: &[f32], rps: u32, seconds: f64) -> LoadPlan {
    let row = |&what: &f32| Row { features: Features::Numbers(vec![what, 0.0]), label: 1 };
    let load = TenantLoad {
        tenant: "t".into(),
        arrivals: Arrivals::Counts { counts: vec![rps], scale: 1.0 },
        samples: Samples::Set(Arc::new(LabelledSet::new(whats.iter().map(row).collect()))),
        label_share: 0.25,
        slo_ms: None,
    };
    LoadPlan { timeout: Duration::from_millis(600), ..LoadPlan::new(&server.url, vec![load], Duration::from_secs_f64(seconds)) }
}

#[test]
fn every_request_ends_in_exactly_one_outcome() {
    let server = Server::start();
    let plan = plan(&server, &[ANSWER, ANSWER, SHED, FAIL, HANG_UP], 300, 2.0);
    let report = run_plan(&plan, |_| {}).unwrap();
    let counts = report.tenants[0].counts;
    assert_eq!(counts.requests, 600);
    assert_eq!(counts.requests, counts.ok + counts.late + counts.shed + counts.error + counts.lost);
    assert_eq!(counts.requests, server.inferred.load(Ordering::Relaxed), "nothing is retried");
    assert!(counts.answered() > 150 && counts.shed > 60 && counts.error > 60 && counts.lost > 60, "{counts:?}");
    assert_eq!(counts.correct, counts.answered());
    assert!(report.tenants[0].first_error.is_some());
    assert_eq!(report.failed(), counts.error + counts.lost);
}

#[test]
fn labels_go_back_in_the_asked_share() {
    let server = Server::start();
    let report = run_plan(&plan(&server, &[ANSWER], 400, 1.0), |_| {}).unwrap();
    let taken = report.tenants[0].labels_taken;
    assert_eq!((taken, report.tenants[0].labels_refused), (server.labelled.load(Ordering::Relaxed), 0));
    assert!((70..130).contains(&taken), "{taken}");
}

#[test]
fn a_silent_server_loses_requests_but_does_not_slow_the_load() {
    let server = Server::start();
    let mut plan = plan(&server, &[SILENCE], 200, 1.0);
    plan.connections = 4;
    let report = run_plan(&plan, |_| {}).unwrap();
    let tenant = &report.tenants[0];
    assert_eq!((tenant.counts.requests, tenant.counts.lost), (200, 200));
    assert!(tenant.generator_lag_max_ms >= 500.0, "waiting for a connection is lag: {}", tenant.generator_lag_max_ms);
    let last = report.records[0].last().unwrap().intended_us;
    assert!(last > 900_000, "the schedule goes on: {last}");
}

#[test]
fn the_servers_reconfigurations_are_put_on_the_loads_clock() {
    let server = Server::start();
    let report = run_plan(&plan(&server, &[ANSWER], 200, 1.0), |_| {}).unwrap();
    let [reconfiguration] = report.reconfigurations.as_slice() else { panic!("{:?}", report.reconfigurations) };
    // 1.2 s after the start of a server that had been up for 1 s; later answers repeat "1 s" and must not move it.
    assert!((reconfiguration.at_s - 0.2).abs() < 0.15, "{}", reconfiguration.at_s);
    let tenant = &report.tenants[0];
    let (during, rest) = (tenant.during_reconfiguration.unwrap().answered, tenant.rest.unwrap().answered);
    assert_eq!(during + rest, tenant.counts.answered());
    assert!((30..100).contains(&during), "{during}");
    assert!(report.to_string().contains("p99 during reconfigurations"));
}

#[test]
fn a_raised_stop_ends_the_load_early() {
    let server = Server::start();
    let plan = plan(&server, &[ANSWER], 100, 30.0);
    let stop = plan.stop.clone();
    let report = run_plan(&plan, |progress| {
        if progress.elapsed_s > 0.5 {
            stop.raise()
        }
    })
    .unwrap();
    assert!(report.duration_s < 5.0, "{}", report.duration_s);
    assert_eq!(report.tenants[0].counts.requests as usize, report.records[0].len());
}

#[test]
fn a_plan_that_does_not_fit_is_refused_in_words() {
    let server = Server::start();
    let mut unknown = plan(&server, &[ANSWER], 1, 1.0);
    unknown.tenants[0].tenant = "u".into();
    assert!(run_plan(&unknown, |_| {}).unwrap_err().to_string().contains("tenant u: http://127.0.0.1"), "unknown tenant");
    let mut narrow = plan(&server, &[ANSWER], 1, 1.0);
    narrow.tenants[0].samples = Samples::Set(Arc::new(LabelledSet::new(vec![Row { features: Features::Numbers(vec![0.0]), label: 0 }])));
    let error = run_plan(&narrow, |_| {}).unwrap_err().to_string();
    assert_eq!(error, "tenant t: the samples have 1 features, but the model takes 2");
}

#[test]
fn the_report_is_written_for_programs_too() {
    let server = Server::start();
    let report = run_plan(&plan(&server, &[ANSWER], 50, 1.0), |_| {}).unwrap();
    let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(json["tenants"][0]["requests"], 50);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    output::write_timeline(&folder.join("t.csv"), &report).unwrap();
    output::write_requests(&folder.join("r.csv"), &report).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("t.csv")).unwrap().lines().count(), 2);
    assert_eq!(std::fs::read_to_string(folder.join("r.csv")).unwrap().lines().count(), 51);
}
