//! The Open Inference Protocol over gRPC: messages and service, generated from `proto/inference.proto`.
//!
//! Holds no logic and knows nothing of tenants or tensors' meaning.
#![allow(missing_docs, reason = "generated code has the documentation of the definition")]
#![allow(clippy::all, reason = "generated code")]

tonic::include_proto!("inference");
