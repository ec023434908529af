//! The types that settings have, as the command line and the file write them.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use store_fs::fuse::DataPath;

/// How well what is read is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Integrity {
    /// Every byte is verified each time it is read from the store: damage gives
    /// EIO, never wrong bytes.
    #[default]
    OnRead,
    /// Contents were verified when they were written and are again by `verify`;
    /// damage in between can be read.
    AtRest,
}

impl From<Integrity> for castore::local::Integrity {
    fn from(integrity: Integrity) -> Self {
        match integrity {
            Integrity::OnRead => Self::OnRead,
            Integrity::AtRest => Self::AtRest,
        }
    }
}

/// How contents get to who reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DataPathChoice {
    /// What measures best: cached.
    #[default]
    Auto,
    /// Through the kernel's page cache, files opened without a request.
    Cached,
    /// Files of 256 KiB and more are read by the kernel itself. Needs Linux 6.9,
    /// root, and the integrity mode at-rest.
    Passthrough,
}

impl From<DataPathChoice> for DataPath {
    fn from(choice: DataPathChoice) -> Self {
        match choice {
            DataPathChoice::Auto => Self::Auto,
            DataPathChoice::Cached => Self::Cached,
            DataPathChoice::Passthrough => Self::Passthrough,
        }
    }
}

/// How much to log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What may be wrong.
    Warn,
    /// What is done.
    #[default]
    Info,
    /// How it is done.
    Debug,
    /// Every request.
    Trace,
}

impl LogLevel {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A number of bytes: a number, or one with KiB, MiB or GiB behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BytesText", into = "String")]
pub(crate) struct Bytes(pub(crate) u64);

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

#[derive(Deserialize)]
#[serde(untagged)]
enum BytesText {
    Number(u64),
    Text(String),
}

impl TryFrom<BytesText> for Bytes {
    type Error = String;

    fn try_from(text: BytesText) -> Result<Self, String> {
        match text {
            BytesText::Number(bytes) => Ok(Self(bytes)),
            BytesText::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
            .unwrap_or((text, 1));
        let bytes = number.trim().parse::<u64>().ok();
        bytes
            .and_then(|number| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| {
                format!("'{text}' is no number of bytes, such as 1048576, 1024KiB or 1MiB")
            })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = (UNITS.iter()).find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match unit {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.to_string()
    }
}

/// Where to listen, if at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Listen {
    /// Nowhere.
    #[default]
    Off,
    /// On an address.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.strip_prefix("unix:") {
            Some(path) if Path::new(path).is_absolute() => Ok(Self::Unix(path.into())),
            Some(path) => Err(format!(
                "the path of a socket must be absolute, not '{path}'"
            )),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("'{text}' is neither an address with a port, unix:PATH, nor off")
            }),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

/// Where the control socket is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum ControlSocket {
    /// Where `status` looks for it.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// At a path.
    At(PathBuf),
}

impl FromStr for ControlSocket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            path if Path::new(path).is_absolute() => Ok(Self::At(path.into())),
            other => Err(format!(
                "'{other}' is neither an absolute path, auto, nor off"
            )),
        }
    }
}

impl TryFrom<String> for ControlSocket {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ControlSocket> for String {
    fn from(socket: ControlSocket) -> Self {
        match socket {
            ControlSocket::Auto => "auto".to_owned(),
            ControlSocket::Off => "off".to_owned(),
            ControlSocket::At(path) => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_and_written() {
        for (text, bytes, written) in [
            ("0", 0, "0"),
            ("1000", 1000, "1000"),
            ("1024", 1024, "1KiB"),
            ("16MiB", 16 << 20, "16MiB"),
            ("3 GiB", 3 << 30, "3GiB"),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), written);
        }
        for text in ["", "-1", "1MB", "x", "99999999999GiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn places_to_listen_are_read_and_written() {
        for text in ["off", "127.0.0.1:9100", "[::1]:80", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["", "9100", "localhost:80", "unix:x.sock"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn control_sockets_are_read_and_written() {
        for text in ["auto", "off", "/run/x.sock"] {
            let socket: ControlSocket = text.parse().unwrap();
            assert_eq!(String::from(socket), text);
        }
        assert!("x.sock".parse::<ControlSocket>().is_err());
    }
}
