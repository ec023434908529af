//! What there is to do, told from the command line, Nix and the cache.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    fs::File,
    io::BufReader,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix_compat::{NarInfo, STORE_DIR, StorePath, registration::RegistrationReader, store_path};
use store::{
    Metadata,
    binary_cache::{BinaryCache, Trust},
    closure,
};

use super::Import;
use crate::nix;

/// One store path to import.
pub(super) enum Job {
    /// A tree that gets a store path of its own.
    Tree { source: PathBuf, name: String },
    /// A tree that is known to be a store path.
    StorePath { source: PathBuf, metadata: Metadata },
    /// A path of a binary cache.
    Fetch(NarInfo),
}

/// The jobs, and the cache that some of them are about.
pub(super) struct Plan {
    pub(super) jobs: Vec<Job>,
    pub(super) cache: Option<BinaryCache>,
}

pub(super) fn plan(import: &Import) -> Result<Plan> {
    if let Some(url) = &import.from {
        let trust = match import.no_check_sigs {
            true => Trust::Anyone,
            false => Trust::Keys(
                (url.trusted_public_keys.iter())
                    .chain(&import.trusted_public_keys)
                    .cloned()
                    .collect(),
            ),
        };
        let cache = BinaryCache::open(&url.dir, trust)?;
        let jobs = of_cache(import, &cache)?;
        let cache = Some(cache);
        return Ok(Plan { jobs, cache });
    }
    let jobs = match &import.registration {
        Some(file) => of_registration(import, file)?,
        None => of_disk(import)?,
    };
    Ok(Plan { jobs, cache: None })
}

/// Trees, and paths that Nix knows.
fn of_disk(import: &Import) -> Result<Vec<Job>> {
    if let Some(name) = &import.name {
        let [source] = import.paths.as_slice() else {
            bail!(
                "--name names one PATH, and there are {}",
                import.paths.len()
            );
        };
        return Ok(vec![tree(source, Some(name))?]);
    }
    let mut trees = Vec::new();
    let mut store_paths = Vec::new();
    for path in &import.paths {
        if import.closure {
            store_paths.push(store_path_of(path)?);
        } else {
            match nix::as_store_path(path.as_os_str()) {
                Some(store_path) => store_paths.push(store_path),
                None => trees.push(tree(path, None)?),
            }
        }
    }
    let mut jobs = Vec::new();
    if !store_paths.is_empty() {
        let known = nix::path_info(&store_paths, import.closure)?;
        if let Some(path) = (store_paths.iter())
            .find(|path| !known.iter().any(|metadata| metadata.store_path == **path))
        {
            bail!("nix path-info said nothing of {path}");
        }
        let mut ordered = in_order(store_paths.clone(), known);
        if !import.closure {
            ordered.retain(|metadata| store_paths.contains(&metadata.store_path));
        }
        jobs.extend(ordered.into_iter().map(|metadata| Job::StorePath {
            source: metadata.store_path.to_absolute_path().into(),
            metadata,
        }));
    }
    jobs.extend(trees);
    Ok(jobs)
}

fn tree(source: &Path, name: Option<&String>) -> Result<Job> {
    // Before anything else is done, for there may be many paths.
    let metadata = source
        .symlink_metadata()
        .with_context(|| format!("cannot import {}", source.display()))?;
    if metadata.is_symlink() {
        tracing::warn!(
            "{} is a symlink, and is imported as such, not what it leads to",
            source.display()
        );
    }
    let name = match name {
        Some(name) => name.clone(),
        None => store::import::default_name(source).with_context(|| {
            format!(
                "{} has no name: give it one with --name NAME",
                source.display()
            )
        })?,
    };
    store_path::check_name(name.as_bytes()).map_err(|error| {
        anyhow!(
            "'{}' is no name for a store path ({error}): give it another with --name NAME",
            name.escape_debug()
        )
    })?;
    Ok(Job::Tree {
        source: source.to_owned(),
        name,
    })
}

/// The store path that a path, with symlinks followed, is in.
fn store_path_of(path: &Path) -> Result<StorePath> {
    let target = path
        .canonicalize()
        .with_context(|| format!("cannot import {}", path.display()))?;
    let (store_path, _) = StorePath::from_absolute_path_below(target.as_os_str().as_bytes())
        .map_err(|error| {
            anyhow!(
                "{} is not in a store path ({error}), and only of these a closure can be imported",
                path.display()
            )
        })?;
    Ok(store_path)
}

/// Paths that a registration describes.
fn of_registration(import: &Import, file: &Path) -> Result<Vec<Job>> {
    let reader = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let known = RegistrationReader::new(BufReader::new(reader))
        .map(|record| Ok(Metadata::from(record?)))
        .collect::<Result<Vec<_>>>()
        .with_context(|| format!("cannot read {}", file.display()))?;

    let mut dir_of: HashMap<StorePath, PathBuf> = HashMap::new();
    let mut roots = Vec::new();
    for path in &import.paths {
        let name = path.file_name().unwrap_or_default();
        let store_path = StorePath::from_base_name(name.as_bytes())
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        if !known
            .iter()
            .any(|metadata| metadata.store_path == store_path)
        {
            bail!("{} does not describe {store_path}", file.display());
        }
        let dir = path.parent().map(Path::to_owned).unwrap_or_default();
        dir_of.insert(store_path.clone(), dir);
        roots.push(store_path);
    }
    let dir = (dir_of.values().next()).map_or_else(|| STORE_DIR.into(), PathBuf::clone);
    let wanted = match (import.paths.is_empty(), import.closure) {
        (true, _) => in_order(known.iter().map(|m| m.store_path.clone()).collect(), known),
        (false, true) => in_order(roots, known),
        (false, false) => {
            let mut ordered = in_order(roots, known);
            ordered.retain(|metadata| dir_of.contains_key(&metadata.store_path));
            ordered
        }
    };
    Ok(wanted
        .into_iter()
        .map(|metadata| Job::StorePath {
            source: (dir_of.get(&metadata.store_path))
                .unwrap_or(&dir)
                .join(metadata.store_path.to_string()),
            metadata,
        })
        .collect())
}

/// Paths of a binary cache.
fn of_cache(import: &Import, cache: &BinaryCache) -> Result<Vec<Job>> {
    let mut roots = Vec::new();
    if import.all {
        for digest in cache.digests()? {
            roots.extend(cache.narinfo(&digest?)?.map(|info| info.store_path));
        }
    }
    for path in &import.paths {
        let text = path.as_os_str().as_bytes();
        let parsed = StorePath::from_absolute_path(text)
            .or_else(|error| StorePath::from_base_name(text).map_err(|_| error));
        let store_path = parsed.map_err(|error| anyhow!("cannot fetch it: {error}"))?;
        match cache.narinfo(store_path.digest())? {
            Some(info) if info.store_path == store_path => roots.push(store_path),
            _ => bail!(
                "the binary cache {} has no {store_path}",
                cache.dir().display()
            ),
        }
    }
    let given: HashSet<_> = roots.iter().cloned().collect();
    let mut infos = closure(roots, |path| cache.narinfo(path.digest()))?;
    if !import.closure {
        infos.retain(|info| given.contains(&info.store_path));
    }
    Ok(infos.into_iter().map(Job::Fetch).collect())
}

/// The roots and what they refer to, each after what it refers to itself.
fn in_order(roots: Vec<StorePath>, known: Vec<Metadata>) -> Vec<Metadata> {
    let mut known: HashMap<StorePath, Metadata> = (known.into_iter())
        .map(|metadata| (metadata.store_path.clone(), metadata))
        .collect();
    let Ok(ordered) = closure(roots, |path| Ok::<_, Infallible>(known.remove(path)));
    ordered
}
