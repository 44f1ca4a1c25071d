//! Tells the worker binary where libtorch lies: in the checkout it was built in, or beside an installed `bin/`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    // The installed place comes first, so that a package that carries its own libtorch never depends on a checkout.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    // Set by .cargo/config.toml to the absolute path of `.libtorch`; a link arg of this package reaches no other package.
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
}
