//! Samples from files: what is imported is what a retraining learns from, and what does not fit is named.

use migrator_models::reader::LabelledSet;
use serde_json::Value;

use crate::harness::{Pair, Setup, World, data, settled};

fn stats(world: &World, tenant: &str) -> Value {
    let ran = world.run(&["data", "stats", "--tenant", tenant, "--by", "window", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str::<Value>(&ran.out).unwrap()["tenants"][0].clone()
}

#[test]
fn files_and_folders_become_samples_and_bad_rows_are_named() {
    let world = World::new(&Pair { window_s: None });
    let file = world.file("more.csv");
    data::write(&file, &data::readings(1200, 0, 31));
    let ran = world.run(&["data", "import", "--tenant", "digits", file.to_str().unwrap()]);
    assert!(ran.code == 0 && ran.out.contains("1200 samples of 3 classes imported; 1200 kept"), "{ran:?}");
    let told = stats(&world, "digits");
    assert_eq!((&told["samples"], &told["distinct"], &told["origins"]["import"]), (&1200.into(), &1200.into(), &1200.into()));
    assert!(
        told["features"][0]["nan"] == 0 && told["features"][0]["most"].as_f64().is_some_and(|most| (3.0..3.5).contains(&most)),
        "{told}"
    );
    let again = world.run(&["data", "import", "--tenant", "digits", "--limit", "7", file.to_str().unwrap()]);
    assert!(again.out.contains("7 samples"), "{again:?}");
    assert_eq!((&stats(&world, "digits")["samples"], &stats(&world, "digits")["distinct"]), (&1207.into(), &1200.into()));

    let bad = world.file("bad.csv");
    std::fs::write(&bad, "1,2,3,4,5,6,7,8,0\n1,2,3,4,5,6,7,8,9\n1,2,3,4,x,6,7,8,0\n").unwrap();
    let refused = world.run(&["data", "import", "--tenant", "digits", bad.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for line in [
        "bad.csv: row 2: label 9; expected 0 to 2",
        "bad.csv:3: column 5: `x`; expected a finite number",
        "nothing was imported: 2 rows do not fit (--skip-bad leaves them out)",
    ] {
        assert!(refused.err.contains(line), "{line}\n{refused:?}");
    }
    assert_eq!(stats(&world, "digits")["samples"], 1207);
    let skipped = world.run(&["data", "import", "--tenant", "digits", "--skip-bad", bad.to_str().unwrap()]);
    assert!(skipped.code == 0 && skipped.out.contains("1 samples of 1 classes imported, 2 left out; 1208 kept"), "{skipped:?}");

    let texts = world.file("texts");
    for (class, text) in [("east", "one"), ("east", "two"), ("west", "three")] {
        std::fs::create_dir_all(texts.join(class)).unwrap();
        std::fs::write(texts.join(class).join(format!("{text}.txt")), text).unwrap();
    }
    let ran = world.run(&["data", "import", "--tenant", "text", texts.to_str().unwrap()]);
    assert!(ran.code == 0 && ran.out.contains("class 1 is west: 1"), "{ran:?}");
    let ran = world.run(&["data", "stats"]);
    for line in
        ["digits: 1208 samples of at most 20000, 1201 of them different", "text: 3 samples", "INPUT0 BYTES: 3 to 5 bytes", "on disk: "]
    {
        assert!(ran.out.contains(line), "{line}\n{}", ran.out);
    }
    let nobody = world.run(&["data", "import", "--tenant", "nobody", "x.csv"]);
    assert!(nobody.code == 1 && nobody.err.contains("no tenant \"nobody\" in the configuration; it has digits, text"), "{nobody:?}");
}

/// [`Pair`] whose `digits` waits for more samples than come.
struct Waiting;

impl Setup for Waiting {
    fn name(&self) -> &'static str {
        "pair"
    }

    fn toml(&self) -> String {
        let toml = Pair { window_s: Some(600.0) }.toml();
        assert!(toml.contains("min_samples = 64\n"));
        toml.replacen("min_samples = 64\n", "min_samples = 1000\n", 1)
    }

    fn training(&self) -> Vec<(&'static str, LabelledSet)> {
        Pair { window_s: None }.training()
    }
}

#[test]
fn a_running_server_learns_of_what_is_imported() {
    let world = World::new(&Waiting);
    let server = world.serve();
    let counted = |samples: u32| {
        let text = format!("waiting for samples ({samples} of 1000)");
        settled("the server counts the samples", || {
            let seen = server.tenant("digits")["retraining"].to_string();
            if seen.contains(&text) { Ok(()) } else { Err(seen) }
        });
    };
    counted(0);
    let file = world.file("more.csv");
    data::write(&file, &data::readings(300, 0, 32));
    let ran = world.run(&["data", "import", "--tenant", "digits", file.to_str().unwrap()]);
    assert!(ran.code == 0 && ran.out.contains("300 kept"), "{ran:?}");
    counted(300);
    let rows = data::readings(8, 0, 4).rows;
    assert_eq!(server.http.post("/v1/tenants/digits/samples", data::samples(&rows).to_string()).ok("samples")["accepted"], 8);
    counted(308);
    assert_eq!(stats(&world, "digits")["samples"], 308);
}
