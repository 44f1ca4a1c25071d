//! `parameters` of a request: what the protocol reserves, and that the rest is what it may be.

use std::fmt;

use migrator_protocol::InferParameter;
use migrator_protocol::infer_parameter::ParameterChoice;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// What a request asks for besides its tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// The client's own bound, microseconds.
    pub timeout_us: Option<u64>,
    /// 0 = the default, 1 = the most urgent.
    pub priority: u64,
    /// Whether outputs come as raw bytes unless they say otherwise.
    pub binary_data_output: bool,
}

/// Prefix that the protocol keeps for itself.
const RESERVED: &str = "triton_";

/// What Triton's own clients ask for with every request over gRPC: that the last answer says that it is. Every request has one answer here.
const FINAL: &str = "triton_enable_empty_final_response";

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parameters, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut all = Parameters::default();
                while let Some(key) = map.next_key::<String>()? {
                    let named = |e: A::Error| de::Error::custom(format_args!("{}: {e}", key.escape_debug()));
                    match key.as_str() {
                        "timeout" => all.timeout_us = map.next_value().map_err(named)?,
                        "priority" => all.priority = map.next_value().map_err(named)?,
                        "binary_data_output" => all.binary_data_output = map.next_value().map_err(named)?,
                        FINAL => drop(map.next_value::<bool>().map_err(named)?),
                        _ if key.starts_with(RESERVED) => return Err(de::Error::custom(reserved(&key))),
                        _ => {
                            map.next_value::<Scalar>().map_err(named)?;
                        }
                    }
                }
                Ok(all)
            }
        }
        deserializer.deserialize_map(All)
    }
}

fn reserved(key: &str) -> String {
    format!("{}: names that begin with {RESERVED:?} are reserved", key.escape_debug())
}

/// A value that is looked at no further.
struct Scalar;

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(Scalar)
    }
}

impl Visitor<'_> for Scalar {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a boolean")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Scalar, E> {
        Ok(Scalar)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Scalar, E> {
        Ok(Scalar)
    }
}

impl Parameters {
    /// Those of a gRPC request.
    ///
    /// # Errors
    /// One line that names the parameter.
    pub fn of_grpc<'p>(parameters: impl Iterator<Item = (&'p String, &'p InferParameter)>) -> Result<Parameters, String> {
        let mut all = Parameters { binary_data_output: true, ..Parameters::default() };
        for (key, parameter) in parameters {
            match key.as_str() {
                "timeout" => all.timeout_us = Some(unsigned(key, parameter)?),
                "priority" => all.priority = unsigned(key, parameter)?,
                FINAL if !matches!(parameter.parameter_choice, Some(ParameterChoice::BoolParam(_))) => {
                    return Err(format!("{key}: must be true or false"));
                }
                FINAL => {}
                _ if key.starts_with(RESERVED) => return Err(reserved(key)),
                _ => {}
            }
        }
        Ok(all)
    }
}

/// A parameter of gRPC that must be a whole number from 0.
///
/// # Errors
/// One line that names it.
pub(super) fn unsigned(key: &str, parameter: &InferParameter) -> Result<u64, String> {
    match &parameter.parameter_choice {
        Some(ParameterChoice::Uint64Param(value)) => Ok(*value),
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(*value).map_err(|_| format!("{key}: {value} is below 0")),
        _ => Err(format!("{key}: must be a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_reserved_names_only_that_of_a_last_answer_is_taken() {
        let json = |text: &str| serde_json::from_str::<Parameters>(text).map_err(|e| e.to_string());
        let grpc = |key: &str, value| {
            let parameter = InferParameter { parameter_choice: Some(value) };
            Parameters::of_grpc([(&key.to_owned(), &parameter)].into_iter())
        };
        assert!(json(r#"{"triton_enable_empty_final_response": true}"#).is_ok());
        assert!(json(r#"{"triton_enable_empty_final_response": 1}"#).unwrap_err().contains("triton_enable_empty_final_response"));
        assert!(json(r#"{"triton_other": true}"#).unwrap_err().contains("reserved"));
        assert!(grpc(FINAL, ParameterChoice::BoolParam(true)).is_ok());
        assert!(grpc(FINAL, ParameterChoice::Int64Param(1)).unwrap_err().contains("must be true or false"));
        assert!(grpc("triton_other", ParameterChoice::BoolParam(true)).unwrap_err().contains("reserved"));
    }
}
