//! Ed25519 signatures over store path metadata.
//!
//! Source: `src/libutil/signature/local-keys.cc` and `ValidPathInfo::fingerprint` in
//! `src/libstore/path-info.cc`. Keys and signatures are written `<key name>:<base64>`.
//!
//! Stricter than Nix: base64 must be canonical, and the public half of a secret key must belong to the
//! other.

use std::{collections::BTreeSet, fmt, str::FromStr};

use data_encoding::BASE64;
use ed25519_dalek::{Signer as _, VerifyingKey};

use crate::{hash::NixHash, store_path::StorePath};

/// Why a text is no key or signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no `<key name>:` at the start.
    #[error("{what} does not start with a key name and a colon")]
    NoName {
        /// What was parsed.
        what: &'static str,
    },
    /// What follows the name is not base64.
    #[error("{what} of key '{name}' is not base64")]
    Base64 {
        /// What was parsed.
        what: &'static str,
        /// The key's name.
        name: String,
        /// What is wrong with it.
        source: data_encoding::DecodeError,
    },
    /// The decoded bytes are too few or too many.
    #[error("{what} of key '{name}' has a wrong length: {len} bytes")]
    Length {
        /// What was parsed.
        what: &'static str,
        /// The key's name.
        name: String,
        /// The number of bytes.
        len: usize,
    },
    /// The bytes are no Ed25519 key.
    #[error("{what} '{name}' is no Ed25519 key")]
    Key {
        /// What was parsed.
        what: &'static str,
        /// The key's name.
        name: String,
    },
    /// A key's name is empty or contains a colon.
    #[error("'{name}' cannot name a key")]
    Name {
        /// The name.
        name: String,
    },
}

/// What a signature of a store path signs:
/// `1;<path>;sha256:<nixbase32>;<NAR size>;<references, comma separated>`.
pub fn fingerprint<'a>(
    path: &StorePath,
    nar_sha256: &[u8; 32],
    nar_size: u64,
    references: impl IntoIterator<Item = &'a StorePath>,
) -> String {
    let hash = NixHash::Sha256(*nar_sha256);
    let mut out = format!("1;{};{hash};{nar_size};", path.to_absolute_path());
    for (index, reference) in references
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .enumerate()
    {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&reference.to_absolute_path());
    }
    out
}

/// A signature and the name of the key it claims to be made with.
///
/// The bytes are whatever the text held: a signature of an unknown kind is carried along, as Nix does, but
/// no key verifies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    name: Box<str>,
    bytes: Box<[u8]>,
}

impl Signature {
    /// Puts a key name and signature bytes together.
    pub fn new(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        check_key_name(name)?;
        if bytes.is_empty() {
            return Err(Error::Length {
                what: "signature",
                name: name.to_owned(),
                len: 0,
            });
        }
        Ok(Self {
            name: name.into(),
            bytes: bytes.into(),
        })
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The signature itself, 64 bytes if it is Ed25519.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(&self.bytes))
    }
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, bytes) = parse("signature", text)?;
        Self::new(name, &bytes)
    }
}

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: Box<str>,
    key: VerifyingKey,
}

impl PublicKey {
    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature` names this key and is its signature of `fingerprint`.
    pub fn verify(&self, fingerprint: &str, signature: &Signature) -> bool {
        self.name == signature.name
            && ed25519_dalek::Signature::from_slice(&signature.bytes).is_ok_and(|bytes| {
                self.key
                    .verify_strict(fingerprint.as_bytes(), &bytes)
                    .is_ok()
            })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const WHAT: &str = "public key";
        let (name, bytes) = parse(WHAT, text)?;
        let bytes: [u8; 32] = sized(WHAT, name, &bytes)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| Error::Key {
            what: WHAT,
            name: name.to_owned(),
        })?;
        Ok(Self {
            name: name.into(),
            key,
        })
    }
}

/// The first of `keys` that made one of `signatures` over `fingerprint`.
pub fn find_valid<'k, 's>(
    keys: &'k [PublicKey],
    fingerprint: &str,
    signatures: impl IntoIterator<Item = &'s Signature>,
) -> Option<&'k PublicKey> {
    signatures
        .into_iter()
        .find_map(|signature| keys.iter().find(|key| key.verify(fingerprint, signature)))
}

/// A key that signs.
pub struct SigningKey {
    name: Box<str>,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// The key that a seed gives; the seed must come from a secure source of randomness.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, Error> {
        check_key_name(name)?;
        Ok(Self {
            name: name.into(),
            key: ed25519_dalek::SigningKey::from_bytes(seed),
        })
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey {
            name: self.name.clone(),
            key: self.key.verifying_key(),
        }
    }

    /// Signs a [`fingerprint`].
    pub fn sign(&self, fingerprint: &str) -> Signature {
        let bytes = self.key.sign(fingerprint.as_bytes()).to_bytes();
        Signature {
            name: self.name.clone(),
            bytes: bytes.into(),
        }
    }

    /// The text of a secret key file. It is secret; hence no `Display`.
    pub fn to_secret_text(&self) -> String {
        format!(
            "{}:{}",
            self.name,
            BASE64.encode(&self.key.to_keypair_bytes())
        )
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl FromStr for SigningKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const WHAT: &str = "secret key";
        let (name, bytes) = parse(WHAT, text)?;
        let bytes: [u8; 64] = sized(WHAT, name, &bytes)?;
        let key =
            ed25519_dalek::SigningKey::from_keypair_bytes(&bytes).map_err(|_| Error::Key {
                what: WHAT,
                name: name.to_owned(),
            })?;
        Ok(Self {
            name: name.into(),
            key,
        })
    }
}

fn check_key_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.contains([':', '\n']) {
        Err(Error::Name {
            name: name.to_owned(),
        })
    } else {
        Ok(())
    }
}

/// No error holds the payload, which may be secret.
fn parse<'a>(what: &'static str, text: &'a str) -> Result<(&'a str, Vec<u8>), Error> {
    let (name, payload) = text.split_once(':').ok_or(Error::NoName { what })?;
    check_key_name(name)?;
    let bytes = BASE64
        .decode(payload.as_bytes())
        .map_err(|source| Error::Base64 {
            what,
            name: name.to_owned(),
            source,
        })?;
    Ok((name, bytes))
}

fn sized<const N: usize>(what: &'static str, name: &str, bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::Length {
        what,
        name: name.to_owned(),
        len: bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(name, &[7; 32]).unwrap()
    }

    #[test]
    fn signs_and_verifies() {
        let (key, text) = (key("k-1"), "1;/nix/store/x;sha256:0;1;");
        let signature = key.sign(text);
        let public = key.public_key();
        assert!(public.verify(text, &signature));
        assert!(!public.verify("1;/nix/store/x;sha256:0;2;", &signature));
        let renamed = Signature::new("k-2", signature.bytes()).unwrap();
        assert!(!public.verify(text, &renamed));
        let short = Signature::new("k-1", &signature.bytes()[..63]).unwrap();
        assert!(!public.verify(text, &short));
        for bit in 0..512 {
            let mut bytes = signature.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !public.verify(text, &Signature::new("k-1", &bytes).unwrap()),
                "bit {bit}"
            );
        }
        assert_eq!(
            find_valid(std::slice::from_ref(&public), text, [&renamed, &signature]),
            Some(&public)
        );
        assert_eq!(find_valid(&[public], text, [&renamed, &short]), None);
    }

    #[test]
    fn text_round_trips() {
        let key = key("cache.example.org-1");
        assert_eq!(key.public_key().to_string().parse(), Ok(key.public_key()));
        let again: SigningKey = key.to_secret_text().parse().unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let signature = key.sign("x");
        assert_eq!(signature.to_string().parse(), Ok(signature));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", key("k")), "SigningKey { name: \"k\", .. }");
    }

    #[test]
    fn refuses_malformed() {
        let public = key("k").public_key().to_string();
        let bare = public.strip_prefix("k:").unwrap();
        for text in [
            "",
            "k",
            bare,
            &format!(":{bare}"),
            "k:!",
            "k:AAAA",
            &format!("k:{bare}="),
            &format!("k: {bare}"),
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text:?}");
        }
        assert!(matches!(
            "k:".parse::<Signature>(),
            Err(Error::Length { len: 0, .. })
        ));
        assert!(matches!(
            "x".parse::<Signature>(),
            Err(Error::NoName { .. })
        ));
        // The public half of another key.
        let mut bytes = key("k").key.to_keypair_bytes();
        bytes[40] ^= 1;
        let text = format!("k:{}", BASE64.encode(&bytes));
        assert!(matches!(text.parse::<SigningKey>(), Err(Error::Key { .. })));
    }
}
