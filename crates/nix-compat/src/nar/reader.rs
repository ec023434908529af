//! Reading a NAR as a stream of events.

use std::{
    fmt,
    io::{self, BufRead},
};

use super::{
    MAGIC, MAX_DEPTH, NAME_MAX, NameError, TARGET_MAX, TargetError, check_name, check_target,
    padding,
};

mod contents;
mod error;

pub use contents::FileContents;
pub use error::{Error, ErrorKind};

/// No string that the grammar itself has is longer.
const TAG_MAX: usize = MAGIC.len();

/// One step through a tree, in the archive's order: depth first, names ascending.
#[derive(Debug)]
pub enum Event<'a, R> {
    /// A directory starts. Its entries follow, then [`LeaveDirectory`](Event::LeaveDirectory).
    EnterDirectory,
    /// The directory has an entry of this name, valid and greater than the one before. Its node follows.
    Entry {
        /// The name.
        name: &'a [u8],
    },
    /// A regular file.
    File {
        /// Whether the file is executable.
        executable: bool,
        /// The file's bytes. What is left unread is skipped by the next event.
        contents: FileContents<'a, R>,
    },
    /// A symlink.
    Symlink {
        /// The target, valid.
        target: &'a [u8],
    },
    /// The directory has no more entries.
    LeaveDirectory,
}

/// What the grammar says comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Node,
    /// Within a file's contents, `remaining` bytes before their padding.
    Contents {
        size: u64,
        remaining: u64,
    },
    /// An entry's tag or the directory's end.
    Directory,
    /// A node is closed: so the entry it was in must be, unless it was the root.
    NodeClosed,
    End,
    Failed,
}

/// A pull parser for one NAR.
///
/// It consumes exactly the archive's bytes. Nothing that a NAR says makes it allocate more than a name per
/// level of nesting.
///
/// ```
/// # use nix_compat::nar::{Event, NarReader, NarWriter};
/// # let mut writer = NarWriter::new(Vec::new());
/// # writer.file(false, 5, &mut &b"hello"[..])?;
/// # let nar = writer.finish()?;
/// let mut reader = NarReader::new(nar.as_slice());
/// while let Some(event) = reader.next_event()? {
///     if let Event::File { mut contents, .. } = event {
///         let mut text = String::new();
///         std::io::Read::read_to_string(&mut contents, &mut text)?;
///         assert_eq!(text, "hello");
///     }
/// }
/// reader.expect_end()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct NarReader<R> {
    inner: R,
    offset: u64,
    state: State,
    /// For each open directory, the name of the entry last seen in it.
    names: Vec<Vec<u8>>,
    target: Vec<u8>,
}

impl<R> fmt::Debug for NarReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NarReader")
            .field("offset", &self.offset)
            .field("state", &self.state)
            .field("depth", &self.names.len())
            .finish_non_exhaustive()
    }
}

impl<R: BufRead> NarReader<R> {
    /// Prepares to read a NAR; nothing is read yet.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            offset: 0,
            state: State::Start,
            names: Vec::new(),
            target: Vec::new(),
        }
    }

    /// How many bytes of the NAR were consumed. After the last event that is the NAR's size.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next event, or `None` when the archive is complete. Input after it is not touched.
    ///
    /// After an error every further call is an error.
    pub fn next_event(&mut self) -> Result<Option<Event<'_, R>>, Error> {
        let step = self.step().map_err(|kind| self.fail(kind))?;
        Ok(Some(match step {
            Step::EnterDirectory => Event::EnterDirectory,
            Step::Entry => Event::Entry {
                name: self.names.last().map_or(&[], Vec::as_slice),
            },
            Step::File { executable } => Event::File {
                executable,
                contents: FileContents { reader: self },
            },
            Step::Symlink => Event::Symlink {
                target: &self.target,
            },
            Step::LeaveDirectory => Event::LeaveDirectory,
            Step::End => return Ok(None),
        }))
    }

    /// Gives the input back, which stands right after the NAR; an error if there are events left.
    pub fn finish(self) -> Result<R, Error> {
        match self.state {
            State::End => Ok(self.inner),
            State::Failed => Err(Error {
                offset: self.offset,
                kind: ErrorKind::FailedBefore,
            }),
            _ => Err(Error {
                offset: self.offset,
                kind: ErrorKind::NotFinished,
            }),
        }
    }

    /// [`finish`](Self::finish), and an error if the input goes on after the NAR.
    pub fn expect_end(self) -> Result<R, Error> {
        let offset = self.offset;
        let mut inner = self.finish()?;
        match fill(&mut inner) {
            Ok([]) => Ok(inner),
            Ok(_) => Err(Error {
                offset,
                kind: ErrorKind::TrailingData,
            }),
            Err(error) => Err(Error {
                offset,
                kind: ErrorKind::Io(error),
            }),
        }
    }

    fn fail(&mut self, kind: ErrorKind) -> Error {
        self.state = State::Failed;
        Error {
            offset: self.offset,
            kind,
        }
    }

    fn step(&mut self) -> Result<Step, ErrorKind> {
        loop {
            match self.state {
                State::Start => {
                    self.magic()?;
                    self.state = State::Node;
                }
                State::Node => return self.node(),
                State::Contents { size, remaining } => {
                    self.skip(remaining)?;
                    self.padding(size)?;
                    self.expect(b")", "')'")?;
                    self.state = State::NodeClosed;
                }
                State::NodeClosed if self.names.is_empty() => self.state = State::End,
                State::NodeClosed => {
                    self.expect(b")", "')'")?;
                    self.state = State::Directory;
                }
                State::Directory => return self.entry_or_end(),
                State::End => return Ok(Step::End),
                State::Failed => return Err(ErrorKind::FailedBefore),
            }
        }
    }

    fn magic(&mut self) -> Result<(), ErrorKind> {
        self.expect(MAGIC, "").map_err(|kind| match kind {
            ErrorKind::Io(_) | ErrorKind::Truncated => kind,
            _ => ErrorKind::Magic,
        })
    }

    fn node(&mut self) -> Result<Step, ErrorKind> {
        self.expect(b"(", "'('")?;
        self.expect(b"type", "'type'")?;
        let tag = self.tag("a file type")?;
        match tag.as_bytes() {
            b"directory" => {
                if self.names.len() == MAX_DEPTH {
                    return Err(ErrorKind::TooDeep);
                }
                self.names.push(Vec::new());
                self.state = State::Directory;
                Ok(Step::EnterDirectory)
            }
            b"regular" => {
                let executable = self.executable()?;
                let size = self.u64()?;
                self.state = State::Contents {
                    size,
                    remaining: size,
                };
                Ok(Step::File { executable })
            }
            b"symlink" => {
                self.expect(b"target", "'target'")?;
                self.target()?;
                self.expect(b")", "')'")?;
                self.state = State::NodeClosed;
                Ok(Step::Symlink)
            }
            _ => Err(tag.unexpected("'regular', 'directory' or 'symlink'")),
        }
    }

    /// Reads up to and including the tag `contents`.
    fn executable(&mut self) -> Result<bool, ErrorKind> {
        let tag = self.tag("'executable' or 'contents'")?;
        match tag.as_bytes() {
            b"contents" => Ok(false),
            b"executable" => {
                self.expect(b"", "an empty string")?;
                self.expect(b"contents", "'contents'")?;
                Ok(true)
            }
            _ => Err(tag.unexpected("'executable' or 'contents'")),
        }
    }

    fn entry_or_end(&mut self) -> Result<Step, ErrorKind> {
        let tag = self.tag("'entry' or ')'")?;
        match tag.as_bytes() {
            b")" => {
                self.names.pop();
                self.state = State::NodeClosed;
                Ok(Step::LeaveDirectory)
            }
            b"entry" => {
                self.expect(b"(", "'('")?;
                self.expect(b"name", "'name'")?;
                self.name()?;
                self.expect(b"node", "'node'")?;
                self.state = State::Node;
                Ok(Step::Entry)
            }
            _ => Err(tag.unexpected("'entry' or ')'")),
        }
    }

    fn name(&mut self) -> Result<(), ErrorKind> {
        let len = self.u64()?;
        if len > NAME_MAX as u64 {
            return Err(ErrorKind::Name {
                name: Vec::new(),
                source: NameError::TooLong(len),
            });
        }
        let mut buf = [0; NAME_MAX];
        let name = buf.get_mut(..len as usize).unwrap_or_default();
        self.fill_exact(name)?;
        self.padding(len)?;
        check_name(name).map_err(|source| ErrorKind::Name {
            name: name.to_vec(),
            source,
        })?;
        // No valid name is empty, so the empty one before the first entry is less than every name.
        let previous = self.names.last_mut().ok_or(ErrorKind::FailedBefore)?;
        match (*name).cmp(previous.as_slice()) {
            std::cmp::Ordering::Greater => {
                previous.clear();
                previous.extend_from_slice(name);
                Ok(())
            }
            std::cmp::Ordering::Equal => Err(ErrorKind::DuplicateName {
                name: name.to_vec(),
            }),
            std::cmp::Ordering::Less => Err(ErrorKind::Unsorted {
                name: name.to_vec(),
                previous: previous.clone(),
            }),
        }
    }

    fn target(&mut self) -> Result<(), ErrorKind> {
        let len = self.u64()?;
        if len > TARGET_MAX as u64 {
            return Err(ErrorKind::Target {
                target: Vec::new(),
                source: TargetError::TooLong(len),
            });
        }
        let mut target = std::mem::take(&mut self.target);
        target.resize(len as usize, 0);
        self.fill_exact(&mut target)?;
        self.padding(len)?;
        if let Err(source) = check_target(&target) {
            return Err(ErrorKind::Target { target, source });
        }
        self.target = target;
        Ok(())
    }

    /// Reads a string that must be this one.
    fn expect(&mut self, expected: &[u8], description: &'static str) -> Result<(), ErrorKind> {
        let tag = self.tag(description)?;
        if tag.as_bytes() == expected {
            Ok(())
        } else {
            Err(tag.unexpected(description))
        }
    }

    /// Reads one of the grammar's own strings.
    fn tag(&mut self, description: &'static str) -> Result<Tag, ErrorKind> {
        let len = self.u64()?;
        if len > TAG_MAX as u64 {
            let found = format!("a string of {len} bytes");
            return Err(ErrorKind::Tag {
                expected: description,
                found,
            });
        }
        let mut tag = Tag {
            buf: [0; TAG_MAX],
            len: len as usize,
        };
        self.fill_exact(tag.buf.get_mut(..tag.len).unwrap_or_default())?;
        self.padding(len)?;
        Ok(tag)
    }

    fn u64(&mut self) -> Result<u64, ErrorKind> {
        let mut bytes = [0; 8];
        self.fill_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads the padding after a string of this length.
    fn padding(&mut self, len: u64) -> Result<(), ErrorKind> {
        let mut bytes = [0; 8];
        self.fill_exact(bytes.get_mut(..padding(len)).unwrap_or_default())?;
        if bytes == [0; 8] {
            Ok(())
        } else {
            Err(ErrorKind::Padding)
        }
    }

    fn fill_exact(&mut self, buf: &mut [u8]) -> Result<(), ErrorKind> {
        self.inner
            .read_exact(buf)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => ErrorKind::Truncated,
                _ => ErrorKind::Io(error),
            })?;
        self.offset += buf.len() as u64;
        Ok(())
    }

    fn skip(&mut self, mut len: u64) -> Result<(), ErrorKind> {
        while len > 0 {
            let available = fill(&mut self.inner).map_err(ErrorKind::Io)?.len();
            if available == 0 {
                return Err(ErrorKind::Truncated);
            }
            let skipped = usize::try_from(len).map_or(available, |len| len.min(available));
            self.inner.consume(skipped);
            self.offset += skipped as u64;
            len -= skipped as u64;
        }
        Ok(())
    }
}

/// `fill_buf` that goes on after a signal.
fn fill<R: BufRead>(inner: &mut R) -> io::Result<&[u8]> {
    loop {
        match inner.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // The buffer is filled by now; asked a second time because the borrow cannot leave the loop.
    inner.fill_buf()
}

/// An [`Event`] without what it borrows.
enum Step {
    EnterDirectory,
    Entry,
    File { executable: bool },
    Symlink,
    LeaveDirectory,
    End,
}

struct Tag {
    buf: [u8; TAG_MAX],
    len: usize,
}

impl Tag {
    fn as_bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    fn unexpected(&self, expected: &'static str) -> ErrorKind {
        ErrorKind::Tag {
            expected,
            found: format!("'{}'", self.as_bytes().escape_ascii()),
        }
    }
}
