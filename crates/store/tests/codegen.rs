//! The checked-in protobuf code is what the `.proto` files say.
//!
//! No user needs `protoc`: the generated code is part of the source, and this
//! test regenerates it with a compiler written in Rust. `UPDATE_GENERATED=1`
//! writes the new code instead of comparing.

use std::{env, fs, path::Path};

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(
        [root.join("proto/pathinfo.proto")],
        [root.join("proto"), root.join("../castore/proto")],
    )
    .unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .bytes(["."])
        .extern_path(".snix.castore.v1", "::castore::proto")
        .out_dir(out.path())
        .compile_fds(descriptors)
        .unwrap();
    let name = "snix.store.v1.rs";
    let fresh = fs::read_to_string(out.path().join(name)).unwrap();
    let kept = root.join("src/proto").join(name);
    if env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&kept, &fresh).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&kept).unwrap(),
        fresh,
        "src/proto/{name} is stale: run this test with UPDATE_GENERATED=1"
    );
}
