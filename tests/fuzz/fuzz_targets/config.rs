//! Configuration files, and problems for `migrator plan`: refused line by line, or read again as the same when written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use migrator::config::Config;

fuzz_target!(|text: &str| {
    match Config::parse("fuzz", text) {
        Err(errors) => assert!(!errors.0.is_empty() && errors.0.iter().all(|error| !error.message.contains('\n'))),
        Ok(config) => {
            let written = toml::to_string(&config).expect("what was read can be written");
            assert_eq!(Config::parse("again", &written).expect("what was written can be read"), config);
        }
    }
    let _ = migrator::plan::read("fuzz", text);
});
