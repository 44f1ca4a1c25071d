//! What became of every request.

use serde::Serialize;

/// How a request ended. Every request ends in exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Answered within the SLO.
    Ok,
    /// Answered after it.
    Late,
    /// Refused: 503 or 429.
    Shed,
    /// Any other status.
    Error,
    /// No answer: connection refused or broken, or no answer within the timeout.
    Lost,
}

impl Outcome {
    /// All, in the order of the tables.
    pub const ALL: [Outcome; 5] = [Outcome::Ok, Outcome::Late, Outcome::Shed, Outcome::Error, Outcome::Lost];

    /// Name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Late => "late",
            Outcome::Shed => "shed",
            Outcome::Error => "error",
            Outcome::Lost => "lost",
        }
    }

    /// Whether there was an answer with a class in it.
    pub fn answered(self) -> bool {
        matches!(self, Outcome::Ok | Outcome::Late)
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was due, microseconds since the load began.
    pub intended_us: u64,
    /// From then to the end of the answer, or to when it was given up.
    pub latency_us: u32,
    /// From when it was due to when its first byte was written: what the generator itself, or a lack of connections, added.
    pub lag_us: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the answer's class was the true one.
    pub correct: bool,
}

impl Record {
    /// When it ended, microseconds since the load began.
    pub fn end_us(&self) -> u64 {
        self.intended_us + u64::from(self.latency_us)
    }
}

/// Requests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All of them: the sum of the other five.
    pub requests: u64,
    /// Answered within the SLO.
    pub ok: u64,
    /// Answered after it.
    pub late: u64,
    /// Refused.
    pub shed: u64,
    /// Any other status.
    pub error: u64,
    /// No answer.
    pub lost: u64,
    /// Answers with the true class.
    pub correct: u64,
    /// Answers with the true class within the SLO.
    pub good: u64,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, record: &Record) {
        self.requests += 1;
        *match record.outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Late => &mut self.late,
            Outcome::Shed => &mut self.shed,
            Outcome::Error => &mut self.error,
            Outcome::Lost => &mut self.lost,
        } += 1;
        self.correct += u64::from(record.correct);
        self.good += u64::from(record.correct && record.outcome == Outcome::Ok);
    }

    /// Answered, in time or not.
    pub fn answered(&self) -> u64 {
        self.ok + self.late
    }

    /// Answered within the SLO ÷ requests; `None` without requests.
    pub fn slo_attainment(&self) -> Option<f64> {
        ratio(self.ok, self.requests)
    }

    /// True answers ÷ answers; `None` without answers.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.correct, self.answered())
    }
}

impl<'a> FromIterator<&'a Record> for Counts {
    fn from_iter<I: IntoIterator<Item = &'a Record>>(records: I) -> Self {
        records.into_iter().fold(Counts::default(), |mut counts, record| {
            counts.add(record);
            counts
        })
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Latencies of answered requests, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Requests behind the numbers.
    pub answered: u64,
    /// Half were faster.
    pub p50_ms: f64,
    /// Nine in ten were faster.
    pub p90_ms: f64,
    /// 99 in 100 were faster.
    pub p99_ms: f64,
    /// 999 in 1,000 were faster.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Latency {
    /// Over the answered ones among `records`; `None` without any.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Self> {
        let mut us: Vec<u32> = records.into_iter().filter(|r| r.outcome.answered()).map(|r| r.latency_us).collect();
        us.sort_unstable();
        let last = us.last().copied()?;
        let at = |share: f64| f64::from(us[((us.len() as f64 * share).ceil() as usize).clamp(1, us.len()) - 1]) / 1e3;
        Some(Latency {
            answered: us.len() as u64,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: f64::from(last) / 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(latency_us: u32, outcome: Outcome, correct: bool) -> Record {
        Record { intended_us: 0, latency_us, lag_us: 0, outcome, correct }
    }

    #[test]
    fn every_request_is_counted_once() {
        let records: Vec<Record> = Outcome::ALL.iter().map(|&outcome| record(1, outcome, outcome.answered())).collect();
        let counts: Counts = records.iter().collect();
        assert_eq!(counts.requests, counts.ok + counts.late + counts.shed + counts.error + counts.lost);
        assert_eq!((counts.answered(), counts.correct, counts.good), (2, 2, 1));
        assert_eq!((counts.slo_attainment(), counts.accuracy()), (Some(0.2), Some(1.0)));
        assert_eq!(Counts::default().slo_attainment(), None);
    }

    #[test]
    fn percentiles_are_of_answers_only() {
        let mut records: Vec<Record> = (1..=100).map(|ms| record(ms * 1000, Outcome::Ok, true)).collect();
        records.push(record(900_000, Outcome::Lost, false));
        let latency = Latency::of(&records).unwrap();
        assert_eq!((latency.p50_ms, latency.p99_ms, latency.max_ms, latency.answered), (50.0, 99.0, 100.0, 100));
        assert_eq!(Latency::of(&[]), None);
    }
}
