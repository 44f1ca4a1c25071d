use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Row, Trace, TraceOptions, read_arrivals, read_trace};
use crate::reader::{Given, real};

fn file(text: &str) -> Given {
    Given::new("trace.csv", text.as_bytes())
}

fn read(text: &str) -> Trace {
    read_trace(&file(text), &TraceOptions::default()).unwrap()
}

fn error(text: &str, options: &TraceOptions) -> String {
    let error = read_trace(&file(text), options).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error.split_once("trace.csv").unwrap().1.to_owned()
}

fn plain(text: &str) -> String {
    error(text, &TraceOptions::default())
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

const DAY: &str = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\na,b,cf75,http,0,600,60\na,b,cf80,timer,1,1,1\n";

fn function(row: Row) -> TraceOptions {
    TraceOptions { row: Some(row), ..TraceOptions::default() }
}

#[test]
fn counts_are_read_with_and_without_a_header() {
    assert_eq!(read("second,count\n0,3\n1,5\n"), Trace::Counts { counts: vec![3, 5], each_s: 1.0 });
    assert_eq!(read("0,3\r\n1,5\r\n"), read("second,count\n0,3\n\n1,5\n"));
    assert_eq!(read_arrivals(&file("0,3\n2,5\n")).unwrap().counts, [3, 0, 5]);
    assert!((read_arrivals(&file("0,3\n2,5\n")).unwrap().mean_rps() - 8.0 / 3.0).abs() < 1e-9);
}

#[test]
fn a_gap_is_refused_unless_it_is_said_to_be_zero() {
    assert_eq!(
        plain("second,count\n0,3\n2,5\n"),
        ":3: second 2 stands where second 1 is due; expected every second, or gaps = \"zero\" where those left out had no arrivals"
    );
    let zero = TraceOptions { gaps_are_zero: true, row: None };
    assert_eq!(read_trace(&file("0,3\n2,5\n"), &zero).unwrap(), Trace::Counts { counts: vec![3, 0, 5], each_s: 1.0 });
}

#[test]
fn bad_counts_get_one_line_with_file_line_and_what_is_right() {
    let expected = "; expected `second,count`: two whole numbers, seconds rising by 1 from 0";
    assert_eq!(plain("second,count\n0,3\n1,-2\n"), format!(":3: count `-2` is negative{expected}"));
    assert_eq!(plain("0,3\n1,x\n"), format!(":2: count `x` is not a whole number{expected}"));
    assert_eq!(plain("0,3\n1,2.5\n"), format!(":2: count `2.5` is not a whole number{expected}"));
    assert_eq!(plain("0,3\n1,5\n0,4\n"), format!(":3: second 0 comes after second 1{expected}"));
    assert_eq!(plain("0,3\n1\n"), format!(":2: `1` has no comma{expected}"));
    assert_eq!(plain("0,3\n1,2000000\n"), format!(":2: count 2000000 is beyond reason, more than 1000000{expected}"));
    assert_eq!(plain("1700000000,1\n"), format!(":1: second 1700000000 is beyond 31 days{expected}"));
}

#[test]
fn what_is_no_trace_is_told_what_is_one() {
    assert!(plain("").starts_with(": holds no rows; expected `second,count`;"));
    assert!(plain("second,count\n").starts_with(": holds no rows; expected `second,count`:"));
    assert!(plain("a,b,c\n1,2,3\n").starts_with(":1: `a,b,c` begins no trace that is known; expected `second,count`;"));
    let bytes = Given::new("trace.csv", &[0x30, 0xff, 0xfe]);
    assert!(read_trace(&bytes, &TraceOptions::default()).unwrap_err().to_string().contains("byte 1: is not UTF-8"));
    let missing = read_trace(std::path::Path::new("/nowhere/x.csv"), &TraceOptions::default()).unwrap_err();
    assert!(missing.to_string().starts_with("/nowhere/x.csv: cannot be read"));
}

#[test]
fn minutes_of_a_function_are_spread_over_their_seconds() {
    let trace = read_trace(&file(DAY), &function(Row::Index(0))).unwrap();
    assert_eq!(trace, read_trace(&file(DAY), &function(Row::Function("cf7".to_owned()))).unwrap());
    let counts = trace.seconds(1.0, &mut rng()).counts;
    let minute = |minute: usize| counts[60 * minute..60 * (minute + 1)].iter().sum::<u32>();
    assert_eq!((counts.len(), minute(0), minute(1), minute(2)), (180, 0, 600, 60));
    assert!(counts[60..120].iter().all(|count| (1..30).contains(count)));
    let fast = trace.seconds(24.0, &mut rng()).counts;
    assert_eq!((fast.len(), fast.iter().sum::<u32>()), (8, 660));
    assert_eq!(fast, trace.seconds(24.0, &mut rng()).counts);
}

#[test]
fn a_function_must_be_chosen_and_be_there() {
    assert_eq!(plain(DAY), ":1: holds 2 functions; expected row = 0 to 1 or function = the beginning of a hash");
    assert_eq!(error(DAY, &function(Row::Index(2))), ":1: has no row 2; expected a row from 0 to 1");
    let named = |hash: &str| error(DAY, &function(Row::Function(hash.to_owned())));
    assert!(named("d").starts_with(":1: has no function `d`;"));
    assert_eq!(named("cf"), ":1: has 2 functions `cf`; expected more of the hash");
    let short = error("HashOwner,HashApp,HashFunction,Trigger,1,2\na,b,c,http,4\n", &TraceOptions::default());
    assert!(short.starts_with(":2: has 5 columns where the header has 6"), "{short}");
    let negative = error("HashOwner,HashApp,HashFunction,Trigger,1\na,b,c,http,-4\n", &TraceOptions::default());
    assert!(negative.starts_with(":2: count `-4` is negative;"), "{negative}");
}

#[test]
fn times_are_counted_from_the_first_request() {
    let llm = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n\
               2023-11-16 18:17:06.5,1,1\n";
    assert_eq!(read(llm).seconds(1.0, &mut rng()).counts, [2, 0, 1]);
    assert_eq!(read("10.25\n10.5\n13\n").seconds(1.0, &mut rng()).counts, [2, 0, 1]);
    assert_eq!(read("10.25\n10.5\n13\n").seconds(2.0, &mut rng()).counts, [2, 1]);
    assert_eq!(read("2023-11-16T18:17:03Z\n2023-11-16T18:18:03Z\n").seconds(60.0, &mut rng()).counts, [1, 1]);
}

#[test]
fn bad_times_get_one_line() {
    let expected = "; expected a time in seconds or like 2023-11-16 18:17:03.98, not before the line above";
    assert_eq!(plain("10.5\n9.5\n"), format!(":2: time `9.5` comes after `10.5`{expected}"));
    assert_eq!(plain("timestamp\n1\nsoon\n"), format!(":3: `soon` is not a time{expected}"));
    assert_eq!(plain("time\n-1\n"), format!(":2: time `-1` is negative{expected}"));
    assert_eq!(plain("0\n1700000000\n"), format!(":2: time `1700000000` is more than 31 days after the first{expected}"));
    assert!(plain("timestamp\n").starts_with(": holds no rows"));
}

#[test]
fn real_counts_are_read() {
    let Some(path) = real::file("arrivals/common/twitter2021_h338_steady.csv") else { return };
    let arrivals = read_arrivals(&path).unwrap();
    assert!(arrivals.counts.len() >= 600 && arrivals.mean_rps() > 0.0, "{} s", arrivals.counts.len());
}

#[test]
fn the_real_llm_trace_has_the_counts_that_were_taken_from_it() {
    let Some(path) = real::file("arrivals/azure_llm_2023/AzureLLMInferenceTrace_code.csv") else { return };
    let Some(counts) = real::file("arrivals/common/azure_llm2023_code.csv") else { return };
    let counts = read_arrivals(&counts).unwrap().counts;
    let stamps = read_arrivals(&path).unwrap().counts;
    // The last second is not whole: the counts leave it out.
    assert_eq!((stamps.len(), &stamps[..counts.len()]), (counts.len() + 1, &counts[..]));
}
