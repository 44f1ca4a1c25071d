//! The report as text.

use std::fmt::Write as _;

use super::measure::Metric;
use super::report::{PolicyReport, Report, ScenarioReport};
use super::statistic::Estimate;

/// The report as text for people; `tenants` adds a table by tenant.
pub fn text(report: &Report, tenants: bool) -> String {
    let mut text = String::new();
    for scenario in &report.scenarios {
        let _ = writeln!(text, "{}\n", heading(scenario));
        text.push_str(&policies(&scenario.policies, &report.reference));
        if tenants {
            text.push('\n');
            text.push_str(&by_tenant(scenario));
        }
        text.push('\n');
    }
    if !report.overall.is_empty() {
        let _ = writeln!(text, "all {} scenarios, each counting the same\n", report.scenarios.len());
        text.push_str(&policies(&report.overall, &report.reference));
        text.push('\n');
    }
    text.push_str(&footnote(report));
    text
}

fn heading(scenario: &ScenarioReport) -> String {
    let heading = &scenario.heading;
    let requests = scenario.policies.iter().map(PolicyReport::requests).fold(0.0, f64::max);
    let seeds = match &heading.seeds[..] {
        [one] => format!("seed {one}"),
        many => format!("{} seeds", many.len()),
    };
    let (name, gpus, tenants, seconds) = (&heading.name, &heading.gpus, heading.tenants.len(), heading.seconds);
    format!("{name}: {gpus}, {tenants} tenants, {seconds} s, {seeds}, {requests:.0} requests a run")
}

fn policies(policies: &[PolicyReport], reference: &str) -> String {
    let oracle = policies.iter().any(|policy| policy.share_of_oracle.is_some());
    let mut head = vec!["policy".to_owned()];
    head.extend(["goodput %", "in SLO %", "accuracy %", "reconfigs", "overhead s"].map(str::to_owned));
    head.extend(oracle.then(|| "of oracle %".to_owned()));
    head.push(format!("{reference} ÷"));
    let row = |policy: &PolicyReport| {
        let mut row = vec![policy.name.clone()];
        row.extend(Metric::ALL.iter().zip(&policy.metrics).map(|(metric, estimate)| metric_cell(*metric, *estimate)));
        row.extend(oracle.then(|| cell(policy.share_of_oracle, 100.0, 1)));
        row.push(if policy.name == reference { String::new() } else { cell(policy.ratio, 1.0, 3) });
        row
    };
    aligned(1, std::iter::once(head).chain(policies.iter().map(row)))
}

fn metric_cell(metric: Metric, estimate: Option<Estimate>) -> String {
    match metric {
        Metric::Goodput | Metric::SloAttainment | Metric::Accuracy => cell(estimate, 100.0, 2),
        Metric::Reconfigurations | Metric::OverheadS => cell(estimate, 1.0, 1),
    }
}

fn by_tenant(scenario: &ScenarioReport) -> String {
    let titles =
        ["goodput %", "in SLO %", "accuracy %", "requests", "ok", "late", "shed", "error", "p50 ms", "p99 ms", "published", "missed"];
    let head = ["policy", "tenant"].into_iter().chain(titles).map(str::to_owned).collect();
    let rows = scenario.policies.iter().flat_map(|policy| {
        let names = policy.tenants.iter().zip(&scenario.heading.tenants).enumerate();
        names.map(|(index, (numbers, tenant))| {
            let name = if index == 0 { policy.name.clone() } else { String::new() };
            let cells = numbers.iter().enumerate().map(|(column, estimate)| tenant_cell(column, *estimate));
            [name, tenant.clone()].into_iter().chain(cells).collect()
        })
    });
    aligned(2, std::iter::once(head).chain(rows))
}

/// Means only: with intervals nobody could read across.
fn tenant_cell(column: usize, estimate: Option<Estimate>) -> String {
    let Some(value) = estimate.map(|estimate| estimate.value()) else { return "-".to_owned() };
    match column {
        0..3 => format!("{:.1}", value * 100.0),
        3..8 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

/// `93.12 ± 0.40`, without the interval from a single run, `-` where there is no number.
fn cell(estimate: Option<Estimate>, factor: f64, digits: usize) -> String {
    let Some(estimate) = estimate else { return "-".to_owned() };
    let value = estimate.value() * factor;
    match estimate.half_width() {
        Some(half) => format!("{value:.digits$} ± {:.digits$}", half * factor),
        None => format!("{value:.digits$}"),
    }
}

/// Rows in columns: the first `left` columns to the left, the others to the right, two blanks between.
fn aligned(left: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, &width))| if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn footnote(report: &Report) -> String {
    let mut text = String::new();
    let several = report.scenarios.iter().any(|scenario| scenario.heading.seeds.len() > 1);
    if several {
        text.push_str("± is half of the 95 % interval over the seeds (Student's t); ");
    }
    let _ = writeln!(text, "{} ÷ is its goodput divided by the policy's, seed by seed (geometric mean)", report.reference);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::report;

    #[test]
    fn the_table_holds_every_number_with_its_interval() {
        let text = text(&report(), false);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "one: 1 × A100-SXM4-80GB, 2 tenants, 60 s, 2 seeds, 200 requests a run",
            "",
            "policy        goodput %      in SLO %    accuracy %  reconfigs  overhead s  of oracle %     migrator ÷",
            "migrator   80.50 ± 6.35  75.00 ± 0.00  75.00 ± 0.00  3.0 ± 0.0   0.5 ± 0.0   80.5 ± 6.4",
            "ekya       59.50 ± 6.35  75.00 ± 0.00  75.00 ± 0.00  3.0 ± 0.0   0.5 ± 0.0   59.5 ± 6.4  1.353 ± 0.253",
            "oracle    100.00 ± 0.00             -             -          -           -  100.0 ± 0.0  0.805 ± 0.064",
        ];
        assert_eq!(lines[..6], expected, "\n{text}");
        assert!(lines.contains(&"all 2 scenarios, each counting the same"), "{text}");
    }

    #[test]
    fn the_tenants_are_told_one_by_one_under_their_policy() {
        let text = text(&report(), true);
        let expected = "\
policy    tenant  goodput %  in SLO %  accuracy %  requests  ok  late  shed  error  p50 ms  p99 ms  published  missed
migrator  vision       81.0      90.0        90.0       100  90    10     0      0    10.0    40.0        1.0     0.0
          text         30.0      60.0        50.0       100  60     0    40      0    20.0    20.0        0.0     1.0
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "÷".to_owned()], vec!["bcd".to_owned(), "10.0".to_owned()]];
        assert_eq!(aligned(1, rows.into_iter()), "a       ÷\nbcd  10.0\n");
    }
}
