//! The line formats that the Nix database is filled from.
//!
//! [`RegistrationReader`] and [`Registration::write`] speak the format of `nix-store --dump-db`,
//! `nix-store --load-db` and the `registration` file of nixpkgs' `closureInfo`:
//!
//! ```text
//! /nix/store/<base name>
//! <SHA-256 of the NAR>            bare base 16 from --dump-db, sha256:<nixbase32> from closureInfo
//! <size of the NAR>
//! <deriver's path, or empty>
//! <number of references>
//! /nix/store/<base name>          so many times
//! ```
//!
//! [`ReferenceGraphReader`] reads the same without hash and size, as `exportReferencesGraph` writes it and
//! `nix-store --register-validity` takes it.
//!
//! Source: `decodeValidPathInfo` and `Store::makeValidityRegistration` in `src/libstore/store-api.cc`.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Read as _, Write},
    iter::FusedIterator,
};

use crate::{
    hash::{self, HashAlgo, HashFormat, NixHash},
    number::parse_u64,
    store_path::{self, StorePath},
};

/// No valid line is longer: a store path has at most 255 bytes.
const LINE_MAX: u64 = 4096;

/// A path's metadata, as the Nix database needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The path.
    pub path: StorePath,
    /// The SHA-256 of the path's NAR.
    pub nar_sha256: [u8; 32],
    /// The size of the path's NAR.
    pub nar_size: u64,
    /// The derivation that the path was built by.
    pub deriver: Option<StorePath>,
    /// The paths referred to, among them possibly the path itself.
    pub references: BTreeSet<StorePath>,
}

impl Registration {
    /// Writes the record as `nix-store --dump-db` does.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.path.to_absolute_path())?;
        writeln!(
            out,
            "{}",
            NixHash::Sha256(self.nar_sha256).to_bare(HashFormat::Base16)
        )?;
        writeln!(out, "{}", self.nar_size)?;
        let deriver = self.deriver.as_ref().map(StorePath::to_absolute_path);
        writeln!(out, "{}", deriver.unwrap_or_default())?;
        writeln!(out, "{}", self.references.len())?;
        for reference in &self.references {
            writeln!(out, "{}", reference.to_absolute_path())?;
        }
        Ok(())
    }
}

/// A path's metadata without its contents' hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGraphNode {
    /// The path.
    pub path: StorePath,
    /// The derivation that the path was built by.
    pub deriver: Option<StorePath>,
    /// The paths referred to, among them possibly the path itself.
    pub references: BTreeSet<StorePath>,
}

/// Registration text that cannot be read, and where.
#[derive(Debug, thiserror::Error)]
#[error("registration text cannot be read at line {line}")]
pub struct Error {
    /// The line's number, from 1.
    pub line: u64,
    /// What is wrong there.
    #[source]
    pub kind: ErrorKind,
}

/// What is wrong with registration text.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The underlying reader failed.
    #[error("reading failed")]
    Io(#[source] io::Error),
    /// The text ends within a record or within a line.
    #[error("the text ends within a record")]
    Truncated,
    /// The line is longer than any valid one.
    #[error("the line is too long")]
    LineTooLong,
    /// The line is no store path.
    #[error("a {what} is expected")]
    Path {
        /// What the path would have been.
        what: &'static str,
        /// What is wrong with it.
        source: store_path::Error,
    },
    /// The line is no SHA-256 hash.
    #[error("a NAR hash is expected")]
    Hash(#[source] hash::Error),
    /// The line is no number.
    #[error("a {what} is expected")]
    Number {
        /// What the number would have been.
        what: &'static str,
    },
}

/// Reads records with hash and size, one at a time. It ends after the first error.
#[derive(Debug)]
pub struct RegistrationReader<R>(Records<R>);

impl<R: BufRead> RegistrationReader<R> {
    /// Prepares to read.
    pub fn new(inner: R) -> Self {
        Self(Records::new(inner))
    }
}

impl<R: BufRead> Iterator for RegistrationReader<R> {
    type Item = Result<Registration, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_record(|lines, path| {
            let nar_sha256 = lines.hash()?;
            let nar_size = lines.number("NAR size")?;
            let (deriver, references) = lines.deriver_and_references()?;
            Ok(Registration {
                path,
                nar_sha256,
                nar_size,
                deriver,
                references,
            })
        })
    }
}

impl<R: BufRead> FusedIterator for RegistrationReader<R> {}

/// Reads records without hash and size, one at a time. It ends after the first error.
#[derive(Debug)]
pub struct ReferenceGraphReader<R>(Records<R>);

impl<R: BufRead> ReferenceGraphReader<R> {
    /// Prepares to read.
    pub fn new(inner: R) -> Self {
        Self(Records::new(inner))
    }
}

impl<R: BufRead> Iterator for ReferenceGraphReader<R> {
    type Item = Result<ReferenceGraphNode, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_record(|lines, path| {
            let (deriver, references) = lines.deriver_and_references()?;
            Ok(ReferenceGraphNode {
                path,
                deriver,
                references,
            })
        })
    }
}

impl<R: BufRead> FusedIterator for ReferenceGraphReader<R> {}

/// What both formats have in common.
#[derive(Debug)]
struct Records<R> {
    inner: R,
    line: u64,
    done: bool,
}

impl<R: BufRead> Records<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            line: 0,
            done: false,
        }
    }

    fn next_record<T>(
        &mut self,
        rest: impl FnOnce(&mut Self, StorePath) -> Result<T, ErrorKind>,
    ) -> Option<Result<T, Error>> {
        if self.done {
            return None;
        }
        let result = match self.read_line() {
            Ok(None) => {
                self.done = true;
                return None;
            }
            Ok(Some(line)) => parse_path(&line, "store path").and_then(|path| rest(self, path)),
            Err(kind) => Err(kind),
        };
        self.done = result.is_err();
        Some(result.map_err(|kind| Error {
            line: self.line,
            kind,
        }))
    }

    /// The next line without its newline, or `None` at the end of the text.
    fn read_line(&mut self) -> Result<Option<Vec<u8>>, ErrorKind> {
        self.line += 1;
        let mut line = Vec::new();
        let mut limited = self.inner.by_ref().take(LINE_MAX);
        limited
            .read_until(b'\n', &mut line)
            .map_err(ErrorKind::Io)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) if limited.limit() == 0 => Err(ErrorKind::LineTooLong),
            Some(_) => Err(ErrorKind::Truncated),
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, ErrorKind> {
        self.read_line()?.ok_or(ErrorKind::Truncated)
    }

    fn hash(&mut self) -> Result<[u8; 32], ErrorKind> {
        let line = self.line()?;
        NixHash::parse(&String::from_utf8_lossy(&line), Some(HashAlgo::Sha256))
            .and_then(NixHash::into_sha256)
            .map_err(ErrorKind::Hash)
    }

    fn number(&mut self, what: &'static str) -> Result<u64, ErrorKind> {
        let line = self.line()?;
        str::from_utf8(&line)
            .ok()
            .and_then(parse_u64)
            .ok_or(ErrorKind::Number { what })
    }

    fn deriver_and_references(
        &mut self,
    ) -> Result<(Option<StorePath>, BTreeSet<StorePath>), ErrorKind> {
        let deriver = match self.line()?.as_slice() {
            b"" => None,
            line => Some(parse_path(line, "deriver")?),
        };
        let mut references = BTreeSet::new();
        for _ in 0..self.number("number of references")? {
            references.insert(parse_path(&self.line()?, "reference")?);
        }
        Ok((deriver, references))
    }
}

fn parse_path(line: &[u8], what: &'static str) -> Result<StorePath, ErrorKind> {
    StorePath::from_absolute_path(line).map_err(|source| ErrorKind::Path { what, source })
}

#[cfg(test)]
mod tests;
