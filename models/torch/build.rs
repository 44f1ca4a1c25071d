//! Tells this package's tests and examples where libtorch lies, so that they run without `LD_LIBRARY_PATH`, and compiles the few
//! lines of C++ that `tch` has no call for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/stream.cpp");
    println!("cargo:rerun-if-changed=src/autocast.cpp");
    println!("cargo:rerun-if-changed=src/optimise.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let mut shim = cc::Build::new();
    // Set by .cargo/config.toml to the absolute path of `.libtorch`; a link arg of this package reaches no other package.
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        shim.include(format!("{libtorch}/include")).include(format!("{libtorch}/include/torch/csrc/api/include"));
    }
    // As libtorch was built: without NDEBUG its classes have other layouts.
    shim.cpp(true).warnings(false).std("c++17").define("NDEBUG", None).define("_GLIBCXX_USE_CXX11_ABI", "1");
    shim.files(["src/stream.cpp", "src/autocast.cpp", "src/optimise.cpp"]).compile("migrator_torch_shim");
}
