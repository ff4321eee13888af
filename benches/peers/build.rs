//! Boost.Interprocess takes part where its headers and a C++ compiler are.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(boost)");
    println!("cargo::rerun-if-changed=src/boost.cpp");
    println!("cargo::rerun-if-env-changed=CPLUS_INCLUDE_PATH");
    let compiled = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .cargo_warnings(false)
        .file("src/boost.cpp")
        .try_compile("peers_boost");
    match compiled {
        Ok(()) => println!("cargo::rustc-cfg=boost"),
        Err(_) => {
            println!("cargo::warning=Boost.Interprocess is not installed, or no C++ compiler: left out")
        }
    }
}
