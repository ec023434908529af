//! URLs of binary caches.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf, str::FromStr};

use nix_compat::signature::{self, PublicKey};

/// Where a binary cache is, as `nix+file:///dir?trusted-public-keys=…` says:
/// `%xx` stands for a byte, keys are separated by spaces (`%20`) or commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUrl {
    /// The directory.
    pub dir: PathBuf,
    /// The keys that its paths may be signed by.
    pub trusted_public_keys: Vec<PublicKey>,
}

impl FromStr for SourceUrl {
    type Err = SourceError;

    fn from_str(url: &str) -> Result<Self, SourceError> {
        let rest = url.strip_prefix("nix+file://").ok_or_else(|| {
            let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
            SourceError::Scheme {
                scheme: scheme.to_owned(),
            }
        })?;
        let (dir, query) = rest.split_once('?').unwrap_or((rest, ""));
        let dir = decode(dir)?;
        if !dir.starts_with(b"/") {
            return Err(SourceError::Relative {
                url: url.to_owned(),
            });
        }
        let mut trusted_public_keys = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if name != "trusted-public-keys" {
                return Err(SourceError::Parameter {
                    name: name.to_owned(),
                });
            }
            let value = decode(value)?;
            for key in String::from_utf8_lossy(&value)
                .split([' ', ','])
                .filter(|key| !key.is_empty())
            {
                trusted_public_keys.push(key.parse()?);
            }
        }
        Ok(Self {
            dir: OsString::from_vec(dir).into(),
            trusted_public_keys,
        })
    }
}

fn decode(text: &str) -> Result<Vec<u8>, SourceError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or_else(|| SourceError::Escape {
                text: text.to_owned(),
            })?;
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Ok(bytes)
}

/// Why a text is no URL of a binary cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The scheme is another.
    #[error("the scheme '{scheme}' is not supported: a binary cache is given as nix+file:///dir")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The directory's path is not absolute.
    #[error("the directory in '{url}' is not absolute: three slashes follow 'nix+file:'")]
    Relative {
        /// The URL.
        url: String,
    },
    /// The parameter is unknown.
    #[error("the parameter '{name}' is unknown; there is trusted-public-keys")]
    Parameter {
        /// The parameter's name.
        name: String,
    },
    /// A `%` is not followed by two hexadecimal digits.
    #[error("'{text}' has a '%' that is not followed by two hexadecimal digits")]
    Escape {
        /// The text.
        text: String,
    },
    /// A key is invalid.
    #[error("a trusted public key is invalid: {0}")]
    Key(#[from] signature::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "golden-1:D1cCI3wmPwv7rWIRTZsKu45uA7QEn7x9/XTdW5RTpi0=";

    #[test]
    fn parses() {
        let parse = |url: &str| url.parse::<SourceUrl>();
        assert_eq!(
            parse("nix+file:///a%20b/c").unwrap().dir,
            PathBuf::from("/a b/c")
        );
        let url = format!("nix+file:///c?trusted-public-keys={KEY}%20{KEY}");
        let keys = parse(&url).unwrap().trusted_public_keys;
        assert_eq!(keys, [KEY.parse().unwrap(), KEY.parse().unwrap()]);
    }

    #[test]
    fn refuses() {
        let parse = |url: &str| url.parse::<SourceUrl>().unwrap_err();
        assert!(matches!(parse("file:///x"), SourceError::Scheme { .. }));
        assert!(matches!(parse("/x"), SourceError::Scheme { .. }));
        assert!(matches!(
            parse("nix+file://x/y"),
            SourceError::Relative { .. }
        ));
        assert!(matches!(
            parse("nix+file:///x?a=b"),
            SourceError::Parameter { .. }
        ));
        assert!(matches!(
            parse("nix+file:///%2"),
            SourceError::Escape { .. }
        ));
        assert!(matches!(
            parse("nix+file:///%+1"),
            SourceError::Escape { .. }
        ));
        assert!(matches!(
            parse("nix+file:///x?trusted-public-keys=k"),
            SourceError::Key(_)
        ));
    }
}
