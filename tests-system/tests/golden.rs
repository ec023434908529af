//! Store paths made by Nix, read through a mount, are what Nix says they are.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use system_tests::mountd::{Finished, MountOptions, Store};
use system_tests::{nar, scratch};

const CACHES: &[&str] = &["cache-none", "cache-xz", "cache-zstd"];
/// In no cache, for it has names that a listing in JSON cannot hold.
const BYTES: &str = "92sq0qwmmidpbsc2pnpk62d0bqjgkvxv-bytes";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden")
}

fn import(store: &Store, arguments: &[&str]) -> Result<()> {
    let finished = Finished::from(store.command().arg("import").args(arguments).output()?);
    ensure!(finished.code == Some(0), "{finished:?}");
    Ok(())
}

/// All golden paths: those of a cache, and the one that is not in any.
fn import_all(store: &Store, cache: &str, dir: &Path) -> Result<()> {
    let golden = golden().canonicalize()?;
    let url = format!("nix+file://{}", golden.join(cache).display());
    let key = fs::read_to_string(golden.join("public-key"))?;
    import(
        store,
        &["--all", "--from", &url, "--trusted-public-key", key.trim()],
    )?;
    let tree = dir.join(BYTES);
    nar::unpack(&fs::read(golden.join(format!("nar/{BYTES}.nar")))?, &tree)?;
    let registration = golden.join("registration.txt");
    let (registration, tree) = (registration.to_string_lossy(), tree.to_string_lossy());
    import(store, &["--registration", &registration, &tree])
}

#[test]
fn nars_read_through_the_mount_have_nixs_hashes() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let list = fs::read_to_string(golden().join("nar-sha256.txt"))?;
    for cache in CACHES {
        let dir = scratch::dir("golden")?;
        let store = Store::new(&dir.path().join("store"))?;
        import_all(&store, cache, dir.path())?;
        let mounted = store.mount(MountOptions::default())?;
        let mut checked = 0;
        for line in list.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name, hash, size] = fields[..] else {
                anyhow::bail!("{line:?}");
            };
            let found = nar::hash(&mounted.path().join(name)).context(cache.to_string())?;
            assert_eq!(found, (hash.to_owned(), size.parse()?), "{cache}: {name}");
            checked += 1;
        }
        assert_eq!(checked, 10);
        let finished = mounted.stop()?;
        ensure!(finished.code == Some(0), "{finished:?}");
    }
    Ok(())
}

#[test]
fn root_digests_are_those_of_snix() -> Result<()> {
    let dir = scratch::dir("golden")?;
    let store = Store::new(&dir.path().join("store"))?;
    import_all(&store, CACHES[0], dir.path())?;
    let roots: Value = serde_json::from_slice(&fs::read(golden().join("castore-roots.json"))?)?;
    let roots = roots.as_object().context("castore-roots.json")?;
    for (name, root) in roots {
        let path = format!("/nix/store/{name}");
        let finished = store.run(&["info", "--json", &path])?;
        ensure!(finished.code == Some(0), "{finished:?}");
        let info: Value = serde_json::from_str(&finished.stdout)?;
        // Nix's word for a file.
        let kind = match root["kind"].as_str() {
            Some("file") => "regular",
            other => other.context("a root without a kind")?,
        };
        assert_eq!(info["root"]["type"], kind, "{name}");
        for (ours, theirs) in [("digest", "blake3"), ("target", "target")] {
            assert_eq!(info["root"][ours], root[theirs], "{name}: {ours}");
        }
        assert_eq!(info["narSize"], root["nar_size"], "{name}");
    }
    assert_eq!(roots.len(), 10);
    Ok(())
}
