//! `PathInfo` as a protobuf message.

use bytes::Bytes;
use castore::Node;
use nix_compat::{ContentAddress, HashAlgo, NixHash, StorePath, signature::Signature};
use prost::Message;

use super::{PathInfo, PathInfoError, check_deriver};
use crate::proto::{self, nar_info::ca};

impl PathInfo {
    /// The path info as a protobuf message.
    pub fn to_proto(&self) -> proto::PathInfo {
        // A store path's base name is a valid entry name: at most 244 bytes of
        // a subset of ASCII.
        let name = self.store_path.to_string();
        let entry = castore::PathComponent::try_from(name.as_str())
            .ok()
            .map(|name| self.node.to_proto(&name));
        proto::PathInfo {
            entry,
            references: (self.references.iter())
                .map(|reference| Bytes::copy_from_slice(reference.digest()))
                .collect(),
            narinfo: Some(proto::NarInfo {
                nar_size: self.nar_size,
                nar_sha256: Bytes::copy_from_slice(&self.nar_sha256),
                signatures: (self.signatures.iter())
                    .map(|signature| proto::nar_info::Signature {
                        name: signature.name().to_owned(),
                        data: Bytes::copy_from_slice(signature.bytes()),
                    })
                    .collect(),
                reference_names: self.references.iter().map(ToString::to_string).collect(),
                deriver: self.deriver.as_ref().map(|deriver| proto::StorePath {
                    name: without_drv(deriver.name()).to_owned(),
                    digest: Bytes::copy_from_slice(deriver.digest()),
                }),
                ca: self.ca.as_ref().map(ca_to_proto),
            }),
        }
    }

    /// The path info as an encoded protobuf message.
    pub fn encode(&self) -> Vec<u8> {
        self.to_proto().encode_to_vec()
    }

    /// Reads an encoded protobuf message.
    ///
    /// # Errors
    /// If it is no such message, or breaks a rule of the model.
    pub fn decode(encoded: Bytes) -> Result<Self, PathInfoError> {
        Self::from_proto(proto::PathInfo::decode(encoded)?)
    }

    /// Checks a protobuf message.
    ///
    /// # Errors
    /// If it breaks a rule of the model.
    pub fn from_proto(message: proto::PathInfo) -> Result<Self, PathInfoError> {
        let entry = message.entry.ok_or(PathInfoError::Missing("root node"))?;
        let narinfo = message.narinfo.ok_or(PathInfoError::Missing("narinfo"))?;
        let (name, node) = Node::from_proto(entry)?;
        let store_path = StorePath::from_base_name(name.as_bytes()).map_err(|source| {
            PathInfoError::StorePath {
                field: "root node's name",
                source,
            }
        })?;

        if message.references.len() != narinfo.reference_names.len() {
            return Err(PathInfoError::ReferenceCount {
                digests: message.references.len(),
                names: narinfo.reference_names.len(),
            });
        }
        let mut references = std::collections::BTreeSet::new();
        for (digest, name) in message.references.iter().zip(&narinfo.reference_names) {
            let reference =
                StorePath::from_base_name(name).map_err(|source| PathInfoError::StorePath {
                    field: "reference",
                    source,
                })?;
            if reference.digest() != &fixed::<20>("reference's digest", digest)? {
                return Err(PathInfoError::ReferenceDigest { name: name.clone() });
            }
            if !references.insert(reference) {
                return Err(PathInfoError::DuplicateReference { name: name.clone() });
            }
        }

        Ok(Self {
            store_path,
            node,
            references,
            nar_size: narinfo.nar_size,
            nar_sha256: fixed("NAR's digest", &narinfo.nar_sha256)?,
            signatures: (narinfo.signatures.iter())
                .map(|signature| Signature::new(&signature.name, &signature.data))
                .collect::<Result<_, _>>()?,
            deriver: narinfo.deriver.map(deriver_from_proto).transpose()?,
            ca: narinfo.ca.as_ref().map(ca_from_proto).transpose()?,
        })
    }
}

fn fixed<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], PathInfoError> {
    bytes.try_into().map_err(|_| PathInfoError::DigestLength {
        field,
        len: bytes.len(),
        expected: N,
    })
}

fn deriver_from_proto(deriver: proto::StorePath) -> Result<StorePath, PathInfoError> {
    let digest = fixed("deriver's digest", &deriver.digest)?;
    let deriver = StorePath::new(digest, format!("{}.drv", deriver.name)).map_err(|source| {
        PathInfoError::StorePath {
            field: "deriver",
            source,
        }
    })?;
    check_deriver(deriver)
}

fn ca_to_proto(address: &ContentAddress) -> proto::nar_info::Ca {
    use ca::Hash;
    let hash = match address {
        ContentAddress::Text(_) => Hash::TextSha256,
        ContentAddress::Flat(hash) => match hash.algo() {
            HashAlgo::Md5 => Hash::FlatMd5,
            HashAlgo::Sha1 => Hash::FlatSha1,
            HashAlgo::Sha256 => Hash::FlatSha256,
            HashAlgo::Sha512 => Hash::FlatSha512,
        },
        ContentAddress::Recursive(hash) => match hash.algo() {
            HashAlgo::Md5 => Hash::NarMd5,
            HashAlgo::Sha1 => Hash::NarSha1,
            HashAlgo::Sha256 => Hash::NarSha256,
            HashAlgo::Sha512 => Hash::NarSha512,
        },
    };
    proto::nar_info::Ca {
        r#type: hash.into(),
        digest: Bytes::copy_from_slice(address.hash().digest()),
    }
}

fn ca_from_proto(message: &proto::nar_info::Ca) -> Result<ContentAddress, PathInfoError> {
    use ca::Hash;
    let kind = Hash::try_from(message.r#type).map_err(|_| PathInfoError::CaType(message.r#type))?;
    let hash = |algo: HashAlgo| {
        NixHash::from_digest(algo, &message.digest).ok_or(PathInfoError::DigestLength {
            field: "content address's digest",
            len: message.digest.len(),
            expected: algo.digest_len(),
        })
    };
    Ok(match kind {
        Hash::TextSha256 => {
            ContentAddress::Text(fixed("content address's digest", &message.digest)?)
        }
        Hash::FlatMd5 => ContentAddress::Flat(hash(HashAlgo::Md5)?),
        Hash::FlatSha1 => ContentAddress::Flat(hash(HashAlgo::Sha1)?),
        Hash::FlatSha256 => ContentAddress::Flat(hash(HashAlgo::Sha256)?),
        Hash::FlatSha512 => ContentAddress::Flat(hash(HashAlgo::Sha512)?),
        Hash::NarMd5 => ContentAddress::Recursive(hash(HashAlgo::Md5)?),
        Hash::NarSha1 => ContentAddress::Recursive(hash(HashAlgo::Sha1)?),
        Hash::NarSha256 => ContentAddress::Recursive(hash(HashAlgo::Sha256)?),
        Hash::NarSha512 => ContentAddress::Recursive(hash(HashAlgo::Sha512)?),
    })
}

fn without_drv(name: &str) -> &str {
    name.strip_suffix(".drv").unwrap_or(name)
}
