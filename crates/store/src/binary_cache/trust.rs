//! Which paths are taken.

use castore::{BlobService, Node};
use nix_compat::{ContentAddress, NarInfo, NixHash};
use sha2::{Digest as _, Sha256, Sha512};

use super::{Trust, Untrusted};
use crate::PathInfo;

/// Whether `info` may be fetched at all.
pub(super) fn check(info: &NarInfo, trust: &Trust) -> Result<(), Untrusted> {
    let Trust::Keys(keys) = trust else {
        return Ok(());
    };
    if info.verified_by(keys).is_some() || follows_from_contents(info).is_some() {
        return Ok(());
    }
    let mut by: Vec<_> = info.signatures.iter().map(|s| s.name()).collect();
    by.dedup();
    let by = by.join(", ");
    Err(match (info.signatures.is_empty(), keys.is_empty()) {
        (true, _) => Untrusted::Unsigned,
        (false, true) => Untrusted::NoKeys { by },
        (false, false) => Untrusted::WrongSignature { by },
    })
}

/// The content address that must be checked because nothing else vouches for
/// the path.
pub(super) fn address_to_check(info: &NarInfo, trust: &Trust) -> Option<ContentAddress> {
    match trust {
        Trust::Keys(keys) if info.verified_by(keys).is_none() => follows_from_contents(info),
        Trust::Keys(_) | Trust::Anyone => None,
    }
}

/// The content address if the path follows from it and [`contents_have`] can
/// check it. Nix also takes paths that refer to themselves, whose NAR is hashed
/// with their own digest blanked, and MD5 and SHA-1; here these need a
/// signature.
fn follows_from_contents(info: &NarInfo) -> Option<ContentAddress> {
    let address = info.ca.filter(|_| info.is_content_addressed())?;
    match address {
        ContentAddress::Text(_) | ContentAddress::Flat(NixHash::Sha256(_) | NixHash::Sha512(_)) => {
            Some(address)
        }
        ContentAddress::Recursive(NixHash::Sha256(_))
            if !info.references.contains(&info.store_path) =>
        {
            Some(address)
        }
        ContentAddress::Flat(_) | ContentAddress::Recursive(_) => None,
    }
}

/// Whether the contents, whose NAR hash was checked, have this address.
pub(super) fn contents_have(
    address: &ContentAddress,
    info: &PathInfo,
    blobs: &dyn BlobService,
) -> Result<bool, castore::Error> {
    match address {
        ContentAddress::Recursive(hash) => Ok(*hash == NixHash::Sha256(info.nar_sha256)),
        ContentAddress::Text(_) | ContentAddress::Flat(_) => {
            let Node::File {
                digest,
                executable: false,
                ..
            } = &info.node
            else {
                return Ok(false);
            };
            let Some(blob) = blobs.open(digest)? else {
                return Ok(false);
            };
            let (mut sha256, mut sha512) = (Sha256::new(), Sha512::new());
            let mut buffer = vec![0; crate::nar::BUFFER_LEN];
            let mut offset = 0;
            loop {
                let len = blob.read_at(&mut buffer, offset)?;
                if len == 0 {
                    break;
                }
                match address.hash() {
                    NixHash::Sha512(_) => sha512.update(&buffer[..len]),
                    _ => sha256.update(&buffer[..len]),
                }
                offset += len as u64;
            }
            Ok(match address.hash() {
                NixHash::Sha256(expected) => expected == *sha256.finalize(),
                NixHash::Sha512(expected) => expected == *sha512.finalize(),
                NixHash::Md5(_) | NixHash::Sha1(_) => false,
            })
        }
    }
}
