//! NAR, the archive format that Nix hashes and transfers store objects in.
//!
//! A NAR is a sequence of strings, each a little-endian 64-bit length, the bytes, and zeros up to a
//! multiple of eight:
//!
//! ```text
//! nar       = "nix-archive-1" node
//! node      = "(" "type" ( regular | directory | symlink ) ")"
//! regular   = "regular" [ "executable" "" ] "contents" <bytes>
//! directory = "directory" { "entry" "(" "name" <name> "node" node ")" }    (names strictly ascending)
//! symlink   = "symlink" "target" <target>
//! ```
//!
//! Source: `src/libutil/archive.cc` and `src/libutil/serialise.cc`.
//!
//! [`NarReader`] and [`NarWriter`] speak in the same events and hold no file in memory. A tree has exactly
//! one NAR, and the reader accepts nothing else: whatever it accepts, the writer reproduces.
//!
//! Stricter than Nix 2.26, in ways that no NAR made by Nix from a Linux file system can notice, and most of
//! which later versions of Nix adopted:
//! - names are at most [`NAME_MAX`] bytes, symlink targets at most [`TARGET_MAX`], neither empty nor with
//!   a NUL, and directories are nested at most [`MAX_DEPTH`] deep;
//! - a regular file always has contents (Nix lets them be missing if the `)` is there twice).

use std::io::{BufRead, Write};

pub mod reader;
pub mod writer;

pub use reader::{Event, FileContents, NarReader};
pub use writer::NarWriter;

/// The first string of every NAR.
pub const MAGIC: &[u8] = b"nix-archive-1";

/// The longest name of a directory entry, in bytes: Linux's `NAME_MAX`.
pub const NAME_MAX: usize = 255;

/// The longest symlink target, in bytes: Linux's `PATH_MAX` without the NUL.
pub const TARGET_MAX: usize = 4095;

/// The number of directories that may lie within each other. A path through more of them is longer than
/// Linux's `PATH_MAX`.
pub const MAX_DEPTH: usize = 2048;

/// Why a directory entry's name is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("it is empty")]
    Empty,
    /// The name is `.` or `..`.
    #[error("it is '.' or '..'")]
    Dots,
    /// The name contains a slash.
    #[error("it contains a slash")]
    Slash,
    /// The name contains a NUL.
    #[error("it contains a NUL")]
    Nul,
    /// The name is longer than [`NAME_MAX`].
    #[error("it is {0} bytes long, more than {NAME_MAX}")]
    TooLong(u64),
}

/// Checks the name of a directory entry.
pub fn check_name(name: &[u8]) -> Result<(), NameError> {
    match name {
        b"" => Err(NameError::Empty),
        b"." | b".." => Err(NameError::Dots),
        _ if name.len() > NAME_MAX => Err(NameError::TooLong(name.len() as u64)),
        _ if name.contains(&b'/') => Err(NameError::Slash),
        _ if name.contains(&0) => Err(NameError::Nul),
        _ => Ok(()),
    }
}

/// Why a symlink's target is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The target is empty.
    #[error("it is empty")]
    Empty,
    /// The target contains a NUL.
    #[error("it contains a NUL")]
    Nul,
    /// The target is longer than [`TARGET_MAX`].
    #[error("it is {0} bytes long, more than {TARGET_MAX}")]
    TooLong(u64),
}

/// Checks the target of a symlink.
pub fn check_target(target: &[u8]) -> Result<(), TargetError> {
    match target {
        b"" => Err(TargetError::Empty),
        _ if target.len() > TARGET_MAX => Err(TargetError::TooLong(target.len() as u64)),
        _ if target.contains(&0) => Err(TargetError::Nul),
        _ => Ok(()),
    }
}

/// The number of zeros after a string of this length.
const fn padding(len: u64) -> usize {
    (len.wrapping_neg() % 8) as usize
}

/// Why [`copy`] stopped.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The NAR could not be read.
    #[error(transparent)]
    Read(#[from] reader::Error),
    /// The NAR could not be written.
    #[error(transparent)]
    Write(#[from] writer::Error),
}

/// Reads one NAR and writes it. With [`std::io::sink`] as the writer's destination this is how to check a
/// NAR.
pub fn copy<R: BufRead, W: Write>(
    reader: &mut NarReader<R>,
    writer: &mut NarWriter<W>,
) -> Result<(), CopyError> {
    while let Some(event) = reader.next_event()? {
        match event {
            Event::EnterDirectory => writer.enter_directory()?,
            Event::Entry { name } => writer.entry(name)?,
            Event::LeaveDirectory => writer.leave_directory()?,
            Event::Symlink { target } => writer.symlink(target)?,
            Event::File {
                executable,
                mut contents,
            } => {
                writer.begin_file(executable, contents.size())?;
                loop {
                    let chunk = contents.next_chunk()?;
                    let len = chunk.len();
                    if len == 0 {
                        break;
                    }
                    writer.write_contents(chunk)?;
                    contents.consume(len);
                }
                writer.end_file()?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
