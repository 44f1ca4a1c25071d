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
