//! A configuration in plain words.

use super::Config;

/// What a configuration means, for an operator.
pub fn explain(_config: &Config) -> String {
    String::new()
}
