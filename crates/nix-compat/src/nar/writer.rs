//! Writing a NAR from a stream of events.

use std::{
    cmp::Ordering,
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
};

use super::{MAGIC, MAX_DEPTH, NameError, TargetError, check_name, check_target, padding};

/// Why a NAR could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The underlying writer failed.
    #[error("writing the NAR failed")]
    Io(#[source] io::Error),
    /// The source of a file's contents failed.
    #[error("reading the contents for the NAR failed")]
    Contents(#[source] io::Error),
    /// A call that has no place here.
    #[error("cannot write {attempted} to a NAR {position}")]
    OutOfPlace {
        /// What was to be written.
        attempted: &'static str,
        /// Where the NAR stands.
        position: &'static str,
    },
    /// A directory entry's name is invalid.
    #[error("the name '{}' is invalid", .name.escape_ascii())]
    Name {
        /// The name.
        name: Vec<u8>,
        /// The rule broken.
        source: NameError,
    },
    /// A directory's entries were not given in strictly ascending order.
    #[error("the name '{}' cannot follow '{}'", .name.escape_ascii(), .previous.escape_ascii())]
    Unsorted {
        /// The name.
        name: Vec<u8>,
        /// The one before it.
        previous: Vec<u8>,
    },
    /// A symlink's target is invalid.
    #[error("the symlink target '{}' is invalid", .target.escape_ascii())]
    Target {
        /// The target.
        target: Vec<u8>,
        /// The rule broken.
        source: TargetError,
    },
    /// More than [`MAX_DEPTH`] directories within each other.
    #[error("directories are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// The contents end before the size announced.
    #[error("the file's contents are {missing} bytes shorter than the {size} announced")]
    ContentsShort {
        /// The size announced.
        size: u64,
        /// How much is missing.
        missing: u64,
    },
    /// The contents go on after the size announced.
    #[error("the file's contents are longer than the {size} bytes announced")]
    ContentsLong {
        /// The size announced.
        size: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Root,
    Node,
    Directory,
    Contents { size: u64, remaining: u64 },
    End,
    Failed,
}

impl State {
    const fn position(self) -> &'static str {
        match self {
            Self::Root => "that has no root yet",
            Self::Node => "where an entry's node is due",
            Self::Directory => "where an entry or a directory's end is due",
            Self::Contents { .. } => "within a file's contents",
            Self::End => "that is complete",
            Self::Failed => "that failed before",
        }
    }
}

/// A push serialiser for one NAR, to be driven by any walk over a tree in the order of [`Event`]s.
///
/// It refuses what is not a NAR: calls out of place, names out of order, contents of another size than
/// announced. After an error every further call is an error.
///
/// [`Event`]: super::Event
///
/// ```
/// # use nix_compat::nar::NarWriter;
/// let mut writer = NarWriter::new(Vec::new());
/// writer.enter_directory()?;
/// writer.entry(b"hello")?;
/// writer.file(true, 13, &mut &b"#!/bin/sh\nhi\n"[..])?;
/// writer.entry(b"link")?;
/// writer.symlink(b"hello")?;
/// writer.leave_directory()?;
/// let nar = writer.finish()?;
/// # Ok::<_, nix_compat::nar::writer::Error>(())
/// ```
pub struct NarWriter<W> {
    inner: W,
    offset: u64,
    state: State,
    /// For each open directory, the name of the entry last written to it.
    names: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

impl<W> fmt::Debug for NarWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NarWriter")
            .field("offset", &self.offset)
            .field("state", &self.state)
            .field("depth", &self.names.len())
            .finish_non_exhaustive()
    }
}

impl<W: Write> NarWriter<W> {
    /// Prepares to write a NAR; nothing is written yet. Writes are small: buffer the destination.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            offset: 0,
            state: State::Root,
            names: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// How many bytes were written. After the last event that is the NAR's size; within a file, the
    /// position of the next byte of its contents.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Starts a directory.
    pub fn enter_directory(&mut self) -> Result<(), Error> {
        self.open_node("a directory")?;
        if self.names.len() == MAX_DEPTH {
            return Err(self.fail(Error::TooDeep));
        }
        self.strings(&[b"(", b"type", b"directory"]);
        self.names.push(Vec::new());
        self.flush_scratch(State::Directory)
    }

    /// Starts an entry of the current directory; its node must follow.
    pub fn entry(&mut self, name: &[u8]) -> Result<(), Error> {
        if self.state != State::Directory {
            return Err(self.out_of_place("an entry"));
        }
        if let Err(source) = check_name(name) {
            return Err(self.fail(Error::Name {
                name: name.to_vec(),
                source,
            }));
        }
        if let Some(previous) = self.names.last_mut() {
            if name.cmp(previous) != Ordering::Greater {
                let error = Error::Unsorted {
                    name: name.to_vec(),
                    previous: previous.clone(),
                };
                return Err(self.fail(error));
            }
            previous.clear();
            previous.extend_from_slice(name);
        }
        self.strings(&[b"entry", b"(", b"name", name, b"node"]);
        self.flush_scratch(State::Node)
    }

    /// Ends the current directory.
    pub fn leave_directory(&mut self) -> Result<(), Error> {
        if self.state != State::Directory {
            return Err(self.out_of_place("a directory's end"));
        }
        self.names.pop();
        self.close_node()
    }

    /// Writes a symlink.
    pub fn symlink(&mut self, target: &[u8]) -> Result<(), Error> {
        self.open_node("a symlink")?;
        if let Err(source) = check_target(target) {
            return Err(self.fail(Error::Target {
                target: target.to_vec(),
                source,
            }));
        }
        self.strings(&[b"(", b"type", b"symlink", b"target", target]);
        self.close_node()
    }

    /// Starts a regular file of this size. Exactly so many bytes must be given to
    /// [`write_contents`](Self::write_contents), then [`end_file`](Self::end_file) called.
    pub fn begin_file(&mut self, executable: bool, size: u64) -> Result<(), Error> {
        self.open_node("a file")?;
        self.strings(&[b"(", b"type", b"regular"]);
        if executable {
            self.strings(&[b"executable", b""]);
        }
        self.strings(&[b"contents"]);
        self.scratch.extend_from_slice(&size.to_le_bytes());
        self.flush_scratch(State::Contents {
            size,
            remaining: size,
        })
    }

    /// Writes the next bytes of the current file.
    pub fn write_contents(&mut self, data: &[u8]) -> Result<(), Error> {
        let State::Contents { size, remaining } = self.state else {
            return Err(self.out_of_place("contents"));
        };
        let Some(remaining) = remaining.checked_sub(data.len() as u64) else {
            return Err(self.fail(Error::ContentsLong { size }));
        };
        self.write(data)?;
        self.state = State::Contents { size, remaining };
        Ok(())
    }

    /// Ends the current file.
    pub fn end_file(&mut self) -> Result<(), Error> {
        match self.state {
            State::Contents { size, remaining: 0 } => {
                self.scratch.resize(self.scratch.len() + padding(size), 0);
                self.close_node()
            }
            State::Contents { size, remaining } => Err(self.fail(Error::ContentsShort {
                size,
                missing: remaining,
            })),
            _ => Err(self.out_of_place("a file's end")),
        }
    }

    /// Writes a regular file whose contents are all of `contents`, which must be `size` bytes.
    pub fn file(
        &mut self,
        executable: bool,
        size: u64,
        contents: &mut impl Read,
    ) -> Result<(), Error> {
        self.begin_file(executable, size)?;
        let mut contents = BufReader::with_capacity(64 * 1024, contents);
        loop {
            let chunk = match contents.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.fail(Error::Contents(error))),
            };
            let len = chunk.len();
            if len == 0 {
                return self.end_file();
            }
            self.write_contents(chunk)?;
            contents.consume(len);
        }
    }

    /// Flushes and gives the destination back; an error if the NAR is not complete.
    pub fn finish(mut self) -> Result<W, Error> {
        if self.state != State::End {
            return Err(self.out_of_place("the end"));
        }
        self.inner.flush().map_err(Error::Io)?;
        Ok(self.inner)
    }

    fn open_node(&mut self, attempted: &'static str) -> Result<(), Error> {
        match self.state {
            State::Root => {
                self.strings(&[MAGIC]);
                Ok(())
            }
            State::Node => Ok(()),
            _ => Err(self.out_of_place(attempted)),
        }
    }

    /// Closes a node and the entry it is in.
    fn close_node(&mut self) -> Result<(), Error> {
        self.strings(&[b")"]);
        if self.names.is_empty() {
            self.flush_scratch(State::End)
        } else {
            self.strings(&[b")"]);
            self.flush_scratch(State::Directory)
        }
    }

    fn out_of_place(&mut self, attempted: &'static str) -> Error {
        let position = self.state.position();
        self.fail(Error::OutOfPlace {
            attempted,
            position,
        })
    }

    fn fail(&mut self, error: Error) -> Error {
        self.state = State::Failed;
        error
    }

    /// Appends strings to the scratch buffer, so that each event is one write.
    fn strings(&mut self, strings: &[&[u8]]) {
        for string in strings {
            let len = string.len() as u64;
            self.scratch.extend_from_slice(&len.to_le_bytes());
            self.scratch.extend_from_slice(string);
            self.scratch.resize(self.scratch.len() + padding(len), 0);
        }
    }

    fn flush_scratch(&mut self, next: State) -> Result<(), Error> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = self.write(&scratch);
        scratch.clear();
        self.scratch = scratch;
        result?;
        self.state = next;
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        if let Err(error) = self.inner.write_all(data) {
            return Err(self.fail(Error::Io(error)));
        }
        self.offset += data.len() as u64;
        Ok(())
    }
}
