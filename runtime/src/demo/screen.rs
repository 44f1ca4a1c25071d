//! What the terminal shows while the demo runs: a few lines that change, or a plain line every 5 s where there is no terminal.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::seen::Seen;
use crate::load::report::percent;
use crate::load::{Progress, TenantProgress};

/// Seconds between plain lines.
const PLAIN_EVERY_S: f64 = 5.0;

/// The screen.
pub(super) struct Screen {
    live: Option<Live>,
    plain_at_s: f64,
    change: String,
}

/// Lines of a terminal.
struct Live {
    /// Keeps the lines together; they are its.
    _all: MultiProgress,
    time: ProgressBar,
    tenants: Vec<ProgressBar>,
    partition: ProgressBar,
    change: ProgressBar,
}

impl Screen {
    /// A screen for so many tenants and seconds.
    pub(super) fn new(tenants: usize, duration_s: f64) -> Self {
        let live = std::io::stderr().is_terminal().then(|| Live::new(tenants, duration_s));
        Screen { live, plain_at_s: 0.0, change: "-".to_owned() }
    }

    /// Shows the present.
    pub(super) fn show(&mut self, progress: &Progress, seen: &Seen) {
        if let Some(change) = seen.changes.first() {
            self.change.clone_from(change);
        }
        match &self.live {
            Some(live) => live.show(progress, seen, &self.change),
            None if progress.elapsed_s >= self.plain_at_s => {
                self.plain_at_s = progress.elapsed_s + PLAIN_EVERY_S;
                println!("{}", plain(progress, seen, &self.change));
            }
            None => {}
        }
    }

    /// Takes the lines away.
    pub(super) fn clear(self) {
        let Some(live) = self.live else { return };
        let lines = [live.time, live.partition, live.change];
        lines.iter().chain(&live.tenants).for_each(ProgressBar::finish_and_clear);
    }
}

impl Live {
    fn new(tenants: usize, duration_s: f64) -> Self {
        let all = MultiProgress::new();
        let style = |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = || all.add(ProgressBar::no_length().with_style(style("{msg}")));
        let time = all.add(ProgressBar::new(duration_s as u64).with_style(style("{bar:30} {pos}/{len} s  {msg}")));
        let tenants = (0..tenants).map(|_| line()).collect();
        let (partition, change) = (line(), line());
        Live { time, tenants, partition, change, _all: all }
    }

    fn show(&self, progress: &Progress, seen: &Seen, change: &str) {
        self.time.set_position(progress.elapsed_s as u64);
        self.time.set_message(window(seen));
        for (bar, tenant) in self.tenants.iter().zip(&progress.tenants) {
            bar.set_message(tenant_line(tenant, seen));
        }
        self.partition.set_message(format!("partition  {}  ({} reconfigurations)", seen.partition(), seen.reconfigurations));
        self.change.set_message(format!("last plan  {change}"));
    }
}

fn window(seen: &Seen) -> String {
    format!("window {}: {:.0} of {:.0} s", seen.window.number, seen.window.elapsed_s, seen.window.length_s)
}

fn tenant_line(tenant: &TenantProgress, seen: &Seen) -> String {
    let retraining = seen.tenants.iter().find(|t| t.name == tenant.tenant).map_or("", |t| t.retraining.as_str());
    let version = seen.tenants.iter().find(|t| t.name == tenant.tenant).map_or(0, |t| t.version);
    let p99 = tenant.p99_ms.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
    format!(
        "{:<8} {:>5} req/s  in SLO {:>7}  p99 {:>7}  accuracy {:>7}  v{version}  {retraining}",
        tenant.tenant,
        tenant.sent_rps,
        percent(tenant.slo_attainment),
        p99,
        percent(tenant.accuracy)
    )
}

fn plain(progress: &Progress, seen: &Seen, change: &str) -> String {
    let tenant =
        |t: &TenantProgress| format!("{} {}/s in SLO {} accuracy {}", t.tenant, t.sent_rps, percent(t.slo_attainment), percent(t.accuracy));
    let tenants: Vec<String> = progress.tenants.iter().map(tenant).collect();
    let (elapsed, duration) = (progress.elapsed_s, progress.duration_s);
    format!("{elapsed:.0}/{duration:.0} s, {} | {} | {} | {change}", window(seen), tenants.join(", "), seen.partition())
}
