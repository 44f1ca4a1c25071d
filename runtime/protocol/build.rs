//! Generates the service from its definition; `protox` reads it, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let definition = protox::compile(["inference.proto"], ["proto"])?;
    // Tensors stay what they are in the received buffer: slices of it, not copies.
    let builder = tonic_prost_build::configure().bytes(".inference.ModelInferRequest.raw_input_contents");
    let builder = builder.bytes(".inference.ModelInferResponse.raw_output_contents").build_client(false).build_transport(false);
    builder.compile_fds(definition)?;
    Ok(())
}
