//! The readers: read and hash files.

use std::{ops::Range, os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, openat, readlinkat},
    io::{read, retry_on_intr},
};

use super::{
    ImportError,
    pool::{BUFFER_LEN, Buffer, Pool},
    walk::{Dir, Job, Place, Stamp, Step, unsupported},
};
use crate::{HashedBlob, outboard::Hashed};

/// A chunk is passed on once it has this many bytes, so that what was just
/// read and hashed is still in the processor's cache when it is observed.
const CHUNK_LEN: usize = 256 * 1024;

/// Consecutive parts of the tree, and the contents they refer to.
pub(super) struct Chunk<'a> {
    pub buffer: Buffer<'a>,
    pub parts: Vec<Part>,
}

pub(super) enum Part {
    Enter(Arc<Dir>),
    /// A whole file.
    File {
        place: Place,
        executable: bool,
        content: Range<usize>,
        hashed: Hashed,
    },
    /// A file that is too big for one buffer: `Content` up to `End` follows.
    Begin {
        place: Place,
        executable: bool,
        size: u64,
    },
    Content(Range<usize>),
    End,
    Symlink {
        place: Place,
        target: Bytes,
    },
    Leave,
}

/// Does jobs until there are no more.
pub(super) fn work<'a>(jobs: &Receiver<Job<'a>>, pool: &'a Pool<'a>) {
    for job in jobs {
        let mut reader = Reader {
            pool,
            job: job.number,
            chunks: job.chunks,
            chunk: None,
            used: 0,
        };
        let error = reader.steps(job.steps).err();
        // What was read before an error comes before it in the tree, too.
        let error = reader.send().err().or(error);
        if let Some(error) = error {
            // Nobody listens if the import has ended already.
            let _ = reader.chunks.send(Err(error));
        }
    }
}

struct Reader<'a> {
    pool: &'a Pool<'a>,
    job: u64,
    chunks: Sender<Result<Chunk<'a>, ImportError>>,
    chunk: Option<Chunk<'a>>,
    /// Bytes of the chunk's buffer that have contents.
    used: usize,
}

impl<'a> Reader<'a> {
    fn steps(&mut self, steps: Vec<Step>) -> Result<(), ImportError> {
        for step in steps {
            self.pool.check()?;
            match step {
                Step::Enter(dir) => self.push(Part::Enter(dir))?,
                Step::File(place) => self.file(place)?,
                Step::Symlink(place) => self.symlink(place)?,
                Step::Leave => self.push(Part::Leave)?,
            }
        }
        Ok(())
    }

    fn symlink(&mut self, place: Place) -> Result<(), ImportError> {
        let target = readlinkat(&place.dir.fd, place.name.as_bytes(), Vec::new())
            .map_err(place.io("read the symlink"))?;
        let target = target.into_bytes().into();
        self.push(Part::Symlink { place, target })
    }

    fn file(&mut self, place: Place) -> Result<(), ImportError> {
        // Not blocking: what was listed as a regular file may be a pipe by now.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = openat(&place.dir.fd, place.name.as_bytes(), flags, Mode::empty())
            .map_err(place.io("open"))?;
        let stat = fstat(&fd).map_err(place.io("examine"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(unsupported(place.path(), kind));
        }
        let file = Open {
            fd,
            stamp: Stamp::of(&stat),
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            executable: Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR),
        };
        match usize::try_from(file.size) {
            Ok(size) if size < BUFFER_LEN => self.small_file(place, &file, size),
            _ => self.big_file(place, &file),
        }
    }

    fn small_file(&mut self, place: Place, file: &Open, size: usize) -> Result<(), ImportError> {
        if self.used + size + 1 > BUFFER_LEN {
            self.send()?;
        }
        let start = self.used;
        let space = &mut self.chunk()?.buffer[start..][..size + 1];
        let len = file.fill(space, file.size, &place)?;
        if len != size {
            return Err(file.changed(&place));
        }
        let hashed = HashedBlob::new(&space[..size]).into_hashed();
        file.check(&place)?;
        self.used += size;
        self.push(Part::File {
            place,
            executable: file.executable,
            content: start..start + size,
            hashed,
        })
    }

    fn big_file(&mut self, place: Place, file: &Open) -> Result<(), ImportError> {
        let here = place.clone();
        self.push(Part::Begin {
            place,
            executable: file.executable,
            size: file.size,
        })?;
        self.send()?;
        let mut rest = file.size;
        loop {
            self.pool.check()?;
            let space = &mut self.chunk()?.buffer[..];
            let (len, room) = (file.fill(space, rest, &here)?, space.len());
            rest = (rest.checked_sub(len as u64)).ok_or_else(|| file.changed(&here))?;
            self.used = len;
            self.push(Part::Content(0..len))?;
            if len < room {
                break;
            }
        }
        if rest != 0 {
            return Err(file.changed(&here));
        }
        file.check(&here)?;
        self.push(Part::End)
    }

    fn chunk(&mut self) -> Result<&mut Chunk<'a>, ImportError> {
        match &mut self.chunk {
            Some(chunk) => Ok(chunk),
            empty => Ok(empty.insert(Chunk {
                buffer: self.pool.take(self.job)?,
                parts: Vec::new(),
            })),
        }
    }

    fn push(&mut self, part: Part) -> Result<(), ImportError> {
        self.chunk()?.parts.push(part);
        if self.used < CHUNK_LEN {
            return Ok(());
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), ImportError> {
        self.used = 0;
        match self.chunk.take() {
            None => Ok(()),
            // The channel is closed only if the import ends.
            Some(chunk) => (self.chunks.send(Ok(chunk))).map_err(|_| ImportError::Cancelled),
        }
    }
}

struct Open {
    fd: OwnedFd,
    stamp: Stamp,
    size: u64,
    executable: bool,
}

impl Open {
    /// Reads until `space` is full or the file ends, and returns how many bytes
    /// that were; `expected` saves a call to learn that nothing follows.
    fn fill(&self, space: &mut [u8], expected: u64, place: &Place) -> Result<usize, ImportError> {
        let mut len = 0;
        while len < space.len() {
            let read =
                retry_on_intr(|| read(&self.fd, &mut space[len..])).map_err(place.io("read"))?;
            len += read;
            if read == 0 || (len as u64 == expected && len < space.len()) {
                break;
            }
        }
        Ok(len)
    }

    /// # Errors
    /// [`ImportError::Changed`] if the file was modified since it was opened.
    fn check(&self, place: &Place) -> Result<(), ImportError> {
        let now = fstat(&self.fd).map_err(place.io("examine"))?;
        if Stamp::of(&now) != self.stamp {
            return Err(ImportError::Changed {
                path: place.path(),
                detail: "it was modified",
            });
        }
        Ok(())
    }

    fn changed(&self, place: &Place) -> ImportError {
        ImportError::Changed {
            path: place.path(),
            detail: "it has not as many bytes as it had",
        }
    }
}
