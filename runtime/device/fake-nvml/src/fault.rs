//! Rules by which calls go wrong.

use serde::{Deserialize, Serialize};

/// A rule: which calls go wrong, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the NVML function, or `*` for all but `nvmlInit*`, `nvmlShutdown` and those that only free.
    pub call: String,
    /// What it returns, an `nvmlReturn_t`.
    #[serde(default = "unknown")]
    pub code: u32,
    /// What happens besides.
    #[serde(default)]
    pub effect: Effect,
    /// Which of the calls, counted from 1 since the rule came; empty for the ones that `probability` picks.
    #[serde(default)]
    pub calls: Vec<u64>,
    /// Share of the calls, 0..1.
    #[serde(default = "always")]
    pub probability: f64,
    /// What decides which of them.
    #[serde(default)]
    pub seed: u64,
    /// How many more times it may strike; `None` for any number.
    #[serde(default)]
    pub remaining: Option<u64>,
    /// Calls that it was asked about.
    #[serde(default)]
    pub seen: u64,
}

/// What a fault does besides its code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: the call fails and changes nothing.
    #[default]
    Refuse,
    /// The call fails after having done what it was asked.
    After,
    /// The call succeeds and changes nothing (go-nvml#146: a GPU instance outlived its destruction). Only for calls that give nothing back.
    Pretend,
    /// The GPU is lost, and the call with it.
    Lose,
}

/// What is to go wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it returns.
    pub code: u32,
    /// What happens besides.
    pub effect: Effect,
}

fn unknown() -> u32 {
    crate::Code::UNKNOWN.0
}

fn always() -> f64 {
    1.0
}

impl Rule {
    /// Every call of this function fails with this code.
    pub fn every(call: &str, code: u32) -> Rule {
        let (call, effect) = (call.to_owned(), Effect::Refuse);
        Rule { call, code, effect, calls: Vec::new(), probability: 1.0, seed: 0, remaining: None, seen: 0 }
    }

    /// Only these calls, counted from 1.
    pub fn on(self, calls: &[u64]) -> Rule {
        Rule { calls: calls.to_vec(), ..self }
    }

    /// Only so many calls, the first ones.
    pub fn times(self, times: u64) -> Rule {
        Rule { remaining: Some(times), ..self }
    }

    /// Only a share of the calls, the same ones for the same seed.
    pub fn sometimes(self, probability: f64, seed: u64) -> Rule {
        Rule { probability, seed, ..self }
    }

    /// With another effect.
    pub fn with(self, effect: Effect) -> Rule {
        Rule { effect, ..self }
    }

    /// Counts a call, and says whether it goes wrong.
    fn strikes(&mut self, call: &str) -> bool {
        if self.call != call && (self.call != "*" || is_spared(call)) {
            return false;
        }
        self.seen += 1;
        let chosen = if self.calls.is_empty() { draw(self.seed, self.seen) < self.probability } else { self.calls.contains(&self.seen) };
        if !chosen || self.remaining == Some(0) {
            return false;
        }
        self.remaining = self.remaining.map(|left| left - 1);
        true
    }
}

/// What goes wrong with this call by the first rule that strikes; all rules count it.
pub(crate) fn strike(rules: &mut [Rule], call: &str) -> Option<Fault> {
    let mut fault = None;
    for rule in rules {
        if rule.strikes(call) {
            fault = fault.or(Some(Fault { code: rule.code, effect: rule.effect }));
        }
    }
    fault
}

/// Calls that a caller must be able to rely on to start and to clean up.
fn is_spared(call: &str) -> bool {
    call.starts_with("nvmlInit") || matches!(call, "nvmlShutdown" | "nvmlErrorString" | "nvmlEventSetFree" | "nvmlGpmSampleFree")
}

/// A number in [0, 1) for the `n`-th call: splitmix64.
fn draw(seed: u64, n: u64) -> f64 {
    let mut bits = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(mut rule: Rule, calls: u64) -> Vec<u64> {
        (1..=calls).filter(|_| strike(std::slice::from_mut(&mut rule), "nvmlGpuInstanceDestroy").is_some()).collect()
    }

    #[test]
    fn a_rule_strikes_the_calls_that_it_names() {
        let rule = || Rule::every("nvmlGpuInstanceDestroy", 19);
        assert_eq!(struck(rule().on(&[2, 4]), 5), [2, 4]);
        assert_eq!(struck(rule().times(2), 5), [1, 2]);
        assert_eq!(struck(Rule::every("nvmlInit_v2", 19), 5), [0_u64; 0]);
    }

    #[test]
    fn the_seed_decides_and_about_as_many_calls_are_struck_as_asked() {
        let some = |seed| struck(Rule::every("*", 19).sometimes(0.25, seed), 1000);
        assert_eq!(some(7), some(7));
        assert_ne!(some(7), some(8));
        assert!((200..300).contains(&some(7).len()));
    }

    #[test]
    fn starting_and_cleaning_up_are_struck_only_by_name() {
        let mut all = [Rule::every("*", 19)];
        assert_eq!(strike(&mut all, "nvmlEventSetFree"), None);
        assert!(strike(&mut [Rule::every("nvmlInit_v2", 9)], "nvmlInit_v2").is_some());
    }

    #[test]
    fn a_rule_needs_no_more_than_its_call() {
        let rule: Rule = serde_json::from_str(r#"{"call": "nvmlDeviceGetCount_v2"}"#).unwrap();
        assert_eq!(rule, Rule::every("nvmlDeviceGetCount_v2", 999));
    }
}
