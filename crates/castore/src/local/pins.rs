//! Pins: lists, by name, of what a layer above wants kept.
//!
//! ```text
//! tvix-store-mount pin, format 1
//! LINE                                 as the layer above chose, any number
//! blake3 DIGEST                        of all bytes before this line
//! ```
//!
//! A pin is a file of its own in `pins`, and is replaced as a whole. The store
//! itself makes nothing of the lines. A pin that is damaged is an error: it might
//! have kept something.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
};

use super::{LocalStore, folder::Folder};
use crate::{Digest, Error};

const PINS: &str = "pins";
const HEADER: &str = "tvix-store-mount pin, format 1\n";
const CHECK: &str = "blake3 ";
const MAX_NAME: usize = 200;
/// More bytes than a pin has.
const MAX_LEN: u64 = 64 << 20;
/// What is written and not yet in its place begins with this, and no name does.
const UNFINISHED: char = '.';

/// Whether a pin can have this name: 1 to 200 of the characters `a-z`, `A-Z`,
/// `0-9` and `+-._=`, the first not a point.
pub fn is_pin_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._=".contains(&byte);
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with(UNFINISHED)
        && name.bytes().all(fits)
}

impl LocalStore {
    /// Sets the lines of a pin, in place of those that it had. They have no
    /// newlines. On return it is durable.
    ///
    /// # Errors
    /// If it cannot be written, or the name is none.
    pub fn set_pin(&self, name: &str, lines: &[String]) -> Result<(), Error> {
        self.write_pin(name, lines)
            .map_err(|error| self.writing(error))
    }

    fn write_pin(&self, name: &str, lines: &[String]) -> Result<(), Error> {
        if !is_pin_name(name) {
            return Err(Error::Backend {
                place: format!("the store {}", self.path.display()),
                detail: format!("{name:?} cannot name a pin"),
            });
        }
        let _lock = self.engine.lock()?;
        let pins = self.engine.folder().make_folder(PINS)?;
        let unfinished = format!("{UNFINISHED}{name}");
        pins.remove_file(&unfinished)?;
        let mut file = pins.create_file(&unfinished)?;
        file.write_all(encode(lines).as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(Error::io("write", pins.file_path(&unfinished)))?;
        pins.rename(&unfinished, &pins, name)?;
        pins.sync()
    }

    /// Removes a pin; answers whether there was one. On return that is durable.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_pin(&self, name: &str) -> Result<bool, Error> {
        let remove = || {
            let _lock = self.engine.lock()?;
            let Some(pins) = self.pin_folder()? else {
                return Ok(false);
            };
            let is_there = is_pin_name(name) && pins.file_len(name)?.is_some();
            if is_there {
                pins.remove_file(name)?;
                pins.sync()?;
            }
            Ok(is_there)
        };
        remove().map_err(|error| self.writing(error))
    }

    /// All pins, by name, with their lines.
    ///
    /// # Errors
    /// If one cannot be read, or is damaged.
    pub fn pins(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let Some(pins) = self.pin_folder()? else {
            return Ok(BTreeMap::new());
        };
        let mut found = BTreeMap::new();
        for name in pins.names()? {
            if name.starts_with(UNFINISHED) {
                continue;
            }
            // It may be removed just now.
            if let Some(lines) = read(&pins, &name)? {
                found.insert(name, lines);
            }
        }
        Ok(found)
    }

    fn pin_folder(&self) -> Result<Option<Folder>, Error> {
        match self.engine.folder().folder(PINS) {
            Ok(pins) => Ok(Some(pins)),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn read(pins: &Folder, name: &str) -> Result<Option<Vec<String>>, Error> {
    let Some(file) = pins.open_file(name)? else {
        return Ok(None);
    };
    let path = pins.file_path(name);
    let mut bytes = Vec::new();
    file.take(MAX_LEN)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", &path))?;
    match decode(&bytes) {
        Some(lines) => Ok(Some(lines)),
        None => Err(Error::Damaged {
            path,
            detail: "it is not a pin whose check matches; pin the paths again, or remove the pin"
                .to_owned(),
        }),
    }
}

fn encode(lines: &[String]) -> String {
    let mut text = HEADER.to_owned();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    let check = Digest::of(text.as_bytes());
    text.push_str(&format!("{CHECK}{check}\n"));
    text
}

fn decode(bytes: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let body = text.strip_suffix('\n')?;
    let (body, check) = body.split_at(body.rfind('\n')? + 1);
    let check: Digest = check.strip_prefix(CHECK)?.parse().ok()?;
    if Digest::of(body.as_bytes()) != check {
        return None;
    }
    let lines = body.strip_prefix(HEADER)?.lines();
    Some(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_they_were_written() {
        for lines in [vec![], vec!["one".to_owned(), "blake3 two".to_owned()]] {
            let text = encode(&lines);
            assert_eq!(decode(text.as_bytes()), Some(lines));
            for at in 0..text.len() {
                let mut damaged = text.clone().into_bytes();
                damaged[at] ^= 1;
                assert_eq!(decode(&damaged), None, "byte {at}");
                assert_eq!(decode(&text.as_bytes()[..at]), None, "cut at {at}");
            }
        }
    }

    #[test]
    fn names_are_file_names() {
        for name in ["a", "Web-1.0_x+y=z", "nixos.42"] {
            assert!(is_pin_name(name), "{name}");
        }
        for name in ["", ".", "..", ".a", "a/b", "a b", "\u{e4}", "a\0"] {
            assert!(!is_pin_name(name), "{name:?}");
        }
        assert!(!is_pin_name(&"a".repeat(201)));
    }
}
