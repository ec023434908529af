//! What `nix path-info --json` prints.
//!
//! Source: `Store::pathInfoToJSON` of Nix 2.8 (an array of objects with a `path`, and `"valid": false` for
//! paths that are not in the store), `UnkeyedValidPathInfo::toJSON` and `src/nix/path-info.cc` of Nix 2.26
//! (an object keyed by path, `null` for those). Both shapes are read, and hashes in every prefixed form.
//! Unknown keys are ignored.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use crate::{
    ca::{self, ContentAddress},
    hash::{self, HashAlgo, NixHash},
    signature::{self, Signature},
    store_path::{self, StorePath},
};

/// What Nix knows of a valid path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// The SHA-256 of the path's NAR.
    pub nar_sha256: [u8; 32],
    /// The size of the path's NAR.
    pub nar_size: u64,
    /// The paths referred to, among them possibly the path itself.
    pub references: BTreeSet<StorePath>,
    /// The derivation that the path was built by.
    pub deriver: Option<StorePath>,
    /// The content address, unverified.
    pub ca: Option<ContentAddress>,
    /// The signatures, unverified.
    pub signatures: Vec<Signature>,
    /// When the path was registered, in seconds since the epoch.
    pub registration_time: Option<u64>,
    /// Whether the path was built in the store that was asked.
    pub ultimate: bool,
}

/// One path of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The path is in the store.
    Valid(Box<PathInfo>),
    /// The path is not in the store.
    Invalid(StorePath),
}

/// Why a text is not the output of `nix path-info --json`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON, or of another shape.
    #[error("path info is not the JSON that 'nix path-info --json' prints")]
    Json(#[from] serde_json::Error),
    /// A path is no store path.
    #[error("path info of '{path}' has an invalid {field}")]
    Path {
        /// The path whose entry it is.
        path: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: store_path::Error,
    },
    /// The NAR hash is invalid.
    #[error("path info of '{path}' has an invalid narHash")]
    Hash {
        /// The path whose entry it is.
        path: String,
        /// What is wrong with it.
        source: hash::Error,
    },
    /// The content address is invalid.
    #[error("path info of '{path}' has an invalid ca")]
    ContentAddress {
        /// The path whose entry it is.
        path: String,
        /// What is wrong with it.
        source: ca::Error,
    },
    /// A signature is invalid.
    #[error("path info of '{path}' has an invalid signature")]
    Signature {
        /// The path whose entry it is.
        path: String,
        /// What is wrong with it.
        source: signature::Error,
    },
    /// A valid path's entry lacks a field.
    #[error("path info of '{path}' has no {field}")]
    Missing {
        /// The path whose entry it is.
        path: String,
        /// The field.
        field: &'static str,
    },
}

/// Parses the output, in its order.
pub fn parse(json: impl AsRef<[u8]>) -> Result<Vec<Entry>, Error> {
    let Raw(entries) = serde_json::from_slice(json.as_ref())?;
    entries
        .into_iter()
        .map(|(path, fields)| entry(path, fields))
        .collect()
}

/// The document, in either shape: paths with what is said of them.
struct Raw(Vec<(String, Option<Fields>)>);

#[derive(Deserialize)]
struct Listed {
    path: String,
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(default = "yes")]
    valid: bool,
    nar_hash: Option<String>,
    nar_size: Option<u64>,
    references: Option<Vec<String>>,
    deriver: Option<String>,
    ca: Option<String>,
    signatures: Option<Vec<String>>,
    registration_time: Option<u64>,
    ultimate: Option<bool>,
}

const fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of path infos, or an object keyed by store path")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(Listed { path, fields }) = seq.next_element()? {
            entries.push((path, Some(fields)));
        }
        Ok(Raw(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw(entries))
    }
}

fn entry(path: String, fields: Option<Fields>) -> Result<Entry, Error> {
    let parse_path = |text: &str, field| {
        StorePath::from_absolute_path(text).map_err(|source| Error::Path {
            path: path.clone(),
            field,
            source,
        })
    };
    let store_path = parse_path(&path, "path")?;
    let Some(fields) = fields.filter(|fields| fields.valid) else {
        return Ok(Entry::Invalid(store_path));
    };
    let missing = |field| Error::Missing {
        path: path.clone(),
        field,
    };

    let nar_hash = fields.nar_hash.ok_or_else(|| missing("narHash"))?;
    let nar_sha256 = NixHash::parse(&nar_hash, Some(HashAlgo::Sha256))
        .and_then(NixHash::into_sha256)
        .map_err(|source| Error::Hash {
            path: path.clone(),
            source,
        })?;
    let references = fields.references.ok_or_else(|| missing("references"))?;
    let references = references
        .iter()
        .map(|text| parse_path(text, "reference"))
        .collect::<Result<_, _>>()?;
    let deriver = fields
        .deriver
        .map(|text| parse_path(&text, "deriver"))
        .transpose()?;
    let ca = fields
        .ca
        .map(|text| text.parse())
        .transpose()
        .map_err(|source| Error::ContentAddress {
            path: path.clone(),
            source,
        })?;
    let signatures = fields
        .signatures
        .unwrap_or_default()
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()
        .map_err(|source| Error::Signature {
            path: path.clone(),
            source,
        })?;
    let info = PathInfo {
        path: store_path,
        nar_sha256,
        nar_size: fields.nar_size.ok_or_else(|| missing("narSize"))?,
        references,
        deriver,
        ca,
        signatures,
        registration_time: fields.registration_time,
        ultimate: fields.ultimate.unwrap_or(false),
    };
    Ok(Entry::Valid(Box::new(info)))
}

#[cfg(test)]
mod tests;
