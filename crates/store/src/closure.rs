use std::collections::{BTreeSet, HashSet};

use nix_compat::{NarInfo, StorePath};

use crate::{Metadata, PathInfo};

/// Something that describes a store path.
pub trait Describes {
    /// The store path.
    fn store_path(&self) -> &StorePath;
    /// What its contents refer to.
    fn references(&self) -> &BTreeSet<StorePath>;
}

macro_rules! describes {
    ($($type:ty),*) => {$(
        impl Describes for $type {
            fn store_path(&self) -> &StorePath {
                &self.store_path
            }

            fn references(&self) -> &BTreeSet<StorePath> {
                &self.references
            }
        }
    )*};
}

describes!(PathInfo, Metadata, NarInfo);

/// Everything that `roots` refer to, directly or not, and themselves, each
/// after what it refers to. What `get` does not know is left out.
///
/// # Errors
/// If `get` fails.
pub fn closure<T: Describes, E>(
    roots: impl IntoIterator<Item = StorePath>,
    mut get: impl FnMut(&StorePath) -> Result<Option<T>, E>,
) -> Result<Vec<T>, E> {
    let mut seen = HashSet::new();
    let mut order = Vec::new();
    let mut open: Vec<(T, Vec<StorePath>)> = Vec::new();
    let mut visit = |path: StorePath, open: &mut Vec<(T, Vec<StorePath>)>| {
        if seen.insert(path.clone())
            && let Some(found) = get(&path)?
        {
            let references = found.references().iter().rev().cloned().collect();
            open.push((found, references));
        }
        Ok(())
    };
    for root in roots {
        visit(root, &mut open)?;
        while let Some((_, references)) = open.last_mut() {
            match references.pop() {
                Some(reference) => visit(reference, &mut open)?,
                None => order.extend(open.pop().map(|(found, _)| found)),
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn path(number: u8) -> StorePath {
        StorePath::new([number; 20], "x").unwrap()
    }

    fn order(edges: &[(u8, &[u8])], roots: &[u8]) -> Vec<u8> {
        let get = |of: &StorePath| {
            let found = edges.iter().find(|(number, _)| path(*number) == *of);
            Ok::<_, Infallible>(found.map(|(number, references)| Metadata {
                store_path: path(*number),
                nar_sha256: [0; 32],
                nar_size: None,
                references: references.iter().map(|number| path(*number)).collect(),
                deriver: None,
                signatures: Vec::new(),
                ca: None,
            }))
        };
        let Ok(order) = closure(roots.iter().map(|number| path(*number)), get);
        order
            .iter()
            .map(|found| found.store_path.digest()[0])
            .collect()
    }

    #[test]
    fn references_come_first() {
        let edges: &[(u8, &[u8])] = &[(1, &[2, 3]), (2, &[3]), (3, &[]), (4, &[1, 4])];
        assert_eq!(order(edges, &[4]), [3, 2, 1, 4]);
        assert_eq!(order(edges, &[2, 1]), [3, 2, 1]);
    }

    #[test]
    fn cycles_and_unknown_paths_end() {
        assert_eq!(order(&[(1, &[2]), (2, &[1, 9])], &[1]), [2, 1]);
        assert!(order(&[], &[1]).is_empty());
    }

    #[test]
    fn long_chains_take_no_stack() {
        let chain = |at: &StorePath| {
            let number = u32::from_le_bytes(at.digest()[..4].try_into().unwrap());
            Ok::<_, Infallible>((number > 0).then(|| {
                let mut next = [0; 20];
                next[..4].copy_from_slice(&(number - 1).to_le_bytes());
                Metadata {
                    store_path: at.clone(),
                    nar_sha256: [0; 32],
                    nar_size: None,
                    references: [StorePath::new(next, "x").unwrap()].into(),
                    deriver: None,
                    signatures: Vec::new(),
                    ca: None,
                }
            }))
        };
        let mut first = [0; 20];
        first[..4].copy_from_slice(&100_000_u32.to_le_bytes());
        let Ok(order) = closure([StorePath::new(first, "x").unwrap()], chain);
        assert_eq!(order.len(), 100_000);
    }
}
