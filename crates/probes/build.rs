//! Compiles the kernel side into one object and generates its skeleton; needs clang, no kernel and no BTF.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=src/bpf");
    SkeletonBuilder::new()
        .source("src/bpf/capture.bpf.c")
        .obj(out.join("capture.bpf.o"))
        // v3: atomic operations that return the old value (kernel 5.12).
        .clang_args([
            "-Wall",
            "-Werror",
            "-Wno-unused-function",
            "-mcpu=v3",
            "-Isrc/bpf/include",
        ])
        .build_and_generate(out.join("capture.skel.rs"))?;
    Ok(())
}
