//! A class as files write it: a whole number, or a name.

use super::error::shown;

/// One class: a whole number from 0, written with or without a decimal part, or one of `names` where there are any. What is wrong and what
/// would be right otherwise.
pub(super) fn label(field: &str, names: &[String]) -> Result<u32, (String, String)> {
    if let Some(class) = names.iter().position(|name| name == field) {
        return Ok(class as u32);
    }
    if !names.is_empty() {
        return Err((format!("label {}", shown(field)), format!("one of {}", names.join(", "))));
    }
    let whole = |n: &f64| n.fract() == 0.0 && (0.0..65_536.0).contains(n);
    let wrong = || (format!("label {}", shown(field)), "a whole number from 0, below 65536 (or name the classes)".to_owned());
    field.parse::<f64>().ok().filter(whole).map(|n| n as u32).ok_or_else(wrong)
}
