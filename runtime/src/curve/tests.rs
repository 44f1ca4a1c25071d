use std::collections::BTreeMap;
use std::path::Path;

use super::Library;
use crate::simulate::scenario::data_folder;

const A100: &str = "A100-SXM4-80GB";

fn library() -> Library {
    Library::shipped().unwrap_or_else(|errors| panic!("{errors}"))
}

/// The rows of the measured profiles by column, or `None` with a printed reason.
fn rows() -> Option<Vec<BTreeMap<String, String>>> {
    let path = data_folder().map(|folder| folder.join("profiles/common/profile_long_dev.csv")).filter(|path| path.exists());
    let Some(path) = path else {
        eprintln!("skipped: profiles/common/profile_long_dev.csv is not at ../shared/data or MIGRATOR_DATA");
        return None;
    };
    Some(csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect())
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap()
}

/// `3g.40gb` or `3g`: 3.
fn slices(row: &BTreeMap<String, String>) -> u8 {
    row["partition"].split('g').next().unwrap().parse().unwrap()
}

#[test]
fn the_shipped_figures_are_complete() {
    let library = library();
    assert_eq!(library.inference_models(A100).len(), 11);
    for gpu in [A100, "A100-SXM4-40GB"] {
        for model in library.inference_models(gpu) {
            let figures = library.inference(model, gpu).unwrap();
            assert!([1, 2, 3, 4, 7].iter().all(|slices| figures.on(*slices).is_some()), "{model} on {gpu}");
        }
    }
    let instances = library.instances(A100).unwrap();
    assert_eq!((instances.create_s[&1], instances.destroy_s[&7], instances.share[&7]), (0.16, 0.22, 98.0 / 108.0));
    assert_eq!(library.training_batches("resnet50", A100), [8, 16, 32, 64, 128, 256]);
    assert_eq!(library.training("resnet50", A100, None).unwrap().batch, 64);
}

#[test]
fn the_shipped_inference_is_what_was_measured() {
    let Some(rows) = rows() else { return };
    let library = library();
    let measured: Vec<_> = rows.iter().filter(|row| row["source"] == "parvagpu" && row["procs"] == "1").collect();
    for row in &measured {
        let (model, batch) = (row["model"].as_str(), number(row, "batch") as u32);
        let ms = f64::from(batch) * 1000.0 / number(row, "throughput_per_s");
        let figures = library.inference(model, A100).unwrap();
        let (_, used) = figures.on(slices(row)).unwrap().iter().find(|(rows, _)| *rows == batch).unwrap();
        let repair = figures.repairs.iter().find(|repair| repair.slices == slices(row) && repair.batch == batch);
        let given = repair.map_or(*used, |repair| repair.measured_ms);
        assert!((given / ms - 1.0).abs() < 1e-3, "{model} {} {batch}: {given} {ms}", slices(row));
        // The latency column is rounded to whole milliseconds, and is the same thing.
        assert!((given - number(row, "latency_ms")).abs() <= 0.02 * given + 1.0, "{model} {batch}: {given}");
    }
    assert_eq!(measured.len(), 242);
}

#[test]
fn the_shipped_training_is_what_was_measured() {
    let Some(rows) = rows() else { return };
    let library = library();
    let mut seen = 0;
    for row in rows.iter().filter(|row| row["task"] == "train" && number(row, "latency_ms") > 0.0) {
        let gpu = if row["gpu"] == "A100-80GB" { A100 } else { "A100-SXM4-40GB" };
        let batch = number(row, "batch") as u32;
        let training = library.training(&row["model"], gpu, Some(batch)).unwrap();
        let (given, ms) = (training.sample_s(slices(row)) * f64::from(batch) * 1000.0, number(row, "latency_ms"));
        // Medians there, means here; and a larger profile that was slower is repaired, by 5 % at most.
        assert!((-0.06..0.07).contains(&(given / ms - 1.0)), "{} {} {batch}: {given} {ms}", row["model"], row["partition"]);
        seen += 1;
    }
    assert_eq!(seen, 81);
}

#[test]
fn repairs_are_small() {
    let library = library();
    let repairs: Vec<_> = library.repairs().filter(|(_, gpu, _)| *gpu == A100).collect();
    let worst = repairs.iter().map(|(_, _, repair)| 1.0 - repair.used_ms / repair.measured_ms).fold(0.0, f64::max);
    println!("{} figures repaired, the worst by {:.1} %", repairs.len(), 100.0 * worst);
    assert!(worst < 0.18, "{worst}");
}

#[test]
fn more_slices_are_never_slower_and_more_rows_never_faster() {
    let library = library();
    for model in library.inference_models(A100) {
        let figures = library.inference(model, A100).unwrap();
        let by_slices: Vec<_> = [1, 2, 3, 4, 7].iter().map(|slices| figures.on(*slices).unwrap()).collect();
        for points in &by_slices {
            assert!(points.is_sorted_by(|(_, before), (_, after)| before <= after), "{model} {points:?}");
        }
        for pair in by_slices.windows(2) {
            for (batch, ms) in pair[0] {
                assert!(pair[1].iter().filter(|(rows, _)| rows == batch).all(|(_, larger)| larger <= ms), "{model} {batch}");
            }
        }
    }
}

#[test]
fn a_bad_curve_file_gets_a_line_for_every_defect() {
    let wrong = |text: &str| Library::default().parse("c.toml", text).unwrap_err().to_string();
    let head = "source = \"x\"\ngpus = [\"A100-SXM4-80GB\"]\n";
    assert_eq!(wrong("gpus = [\"a\"]\n"), "c.toml:1: source is missing: must be a text in quotes, not empty");
    let order = wrong(&format!("{head}[[inference]]\nmodel = \"m\"\nbatch_ms = {{ 1g = [[4, 1.0], [2, 2.0]] }}\n"));
    assert!(
        order.starts_with("c.toml:5: inference[0].batch_ms.1g = [[4, 1.0], [2, 2.0]]: must be a list of [rows, milliseconds]"),
        "{order}"
    );
    let profile = wrong(&format!("{head}[[training]]\nmodel = \"m\"\nbatch = 4\niteration_s = {{ small = 1.0 }}\n"));
    assert!(profile.contains("c.toml:6: training[0].iteration_s.small = 1.0: the key must be a profile"), "{profile}");
    let derived = wrong(&format!("{head}[[derived]]\nmodels = [\"m\"]\nbatch = 4\nfactor = 3.0\n"));
    assert!(derived.contains("must be a model whose inference of 4 rows was measured"), "{derived}");
    assert!(Library::default().add(Path::new("/nowhere.toml")).unwrap_err().to_string().contains("cannot be read"));
}
