//! Root package: owns the end-to-end tests and the benches, and holds no code of its own.
