//! The walker: lists directories and cuts the tree into jobs.

use std::{
    ffi::OsStr,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, statat},
    io::Errno,
};

use super::{FileKind, ImportError, pool::Pool, read::Chunk};
use crate::PathComponent;

/// The greatest number of nested directories. Each has an open descriptor, and
/// a process has 1024 unless it asked for more.
pub(super) const MAX_DEPTH: usize = 512;
/// Files and symlinks of a job: enough that handing it over is cheap.
const JOB_LEAVES: usize = 32;
/// Directories of a job, whose descriptors are open until it is stored.
const JOB_DIRECTORIES: usize = 8;

/// A piece of the tree, read by one reader.
pub(super) struct Job<'a> {
    /// Position in the tree's order.
    pub number: u64,
    pub steps: Vec<Step>,
    pub chunks: Sender<Result<Chunk<'a>, ImportError>>,
}

/// Where the chunks of the next job come from.
pub(super) type Ordered<'a> = Result<Receiver<Result<Chunk<'a>, ImportError>>, ImportError>;

pub(super) enum Step {
    Enter(Arc<Dir>),
    File(Place),
    Symlink(Place),
    Leave,
}

/// An entry of an open directory.
#[derive(Clone)]
pub(super) struct Place {
    pub dir: Arc<Dir>,
    pub name: PathComponent,
}

impl Place {
    pub(super) fn path(&self) -> PathBuf {
        self.dir
            .path()
            .join(OsStr::from_bytes(self.name.as_bytes()))
    }

    /// For `map_err`: the system refused `act`.
    pub(super) fn io(&self, act: &'static str) -> impl FnOnce(Errno) -> ImportError {
        move |errno| match errno {
            // It was there, and was no symlink, when its directory was listed.
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO => ImportError::Changed {
                path: self.path(),
                detail: "it was replaced or removed",
            },
            errno => ImportError::Io {
                act,
                path: self.path(),
                source: errno.into(),
            },
        }
    }
}

/// An open directory of the tree.
pub(super) struct Dir {
    pub fd: OwnedFd,
    origin: Origin,
    stamp: Stamp,
}

enum Origin {
    Root(PathBuf),
    Entry(Place),
}

impl Dir {
    fn path(&self) -> PathBuf {
        match &self.origin {
            Origin::Root(path) => path.clone(),
            Origin::Entry(place) => place.path(),
        }
    }

    /// The name in the parent; `None` for the root.
    pub(super) fn name(&self) -> Option<&PathComponent> {
        match &self.origin {
            Origin::Root(_) => None,
            Origin::Entry(place) => Some(&place.name),
        }
    }

    /// For `map_err`: the system refused `act`.
    pub(super) fn io(&self, act: &'static str) -> impl FnOnce(Errno) -> ImportError {
        move |errno| ImportError::Io {
            act,
            path: self.path(),
            source: errno.into(),
        }
    }

    /// For `map_err`: the directory cannot be stored.
    pub(super) fn error<E>(
        &self,
        wrap: impl FnOnce(PathBuf, E) -> ImportError,
    ) -> impl FnOnce(E) -> ImportError {
        move |source| wrap(self.path(), source)
    }

    /// # Errors
    /// [`ImportError::Changed`] if the entries are no longer those listed.
    pub(super) fn check(&self) -> Result<(), ImportError> {
        let now = Stamp::of(&fstat(&self.fd).map_err(self.io("examine"))?);
        if now != self.stamp {
            return Err(ImportError::Changed {
                path: self.path(),
                detail: "entries were added, removed or renamed",
            });
        }
        Ok(())
    }
}

/// What changes when a file or directory is modified.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    #[allow(clippy::unnecessary_cast, reason = "the types differ by architecture")]
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}

/// Sends the tree at `path` off in jobs.
pub(super) fn walk<'a>(
    path: &Path,
    jobs: Sender<Job<'a>>,
    order: Sender<Ordered<'a>>,
    pool: &'a Pool<'a>,
) {
    let mut walker = Walker {
        jobs,
        order,
        pool,
        number: 0,
        steps: Vec::new(),
        leaves: 0,
        directories: 0,
    };
    let error = walker.tree(path).err();
    let error = walker.send_job().err().or(error);
    if let Some(error) = error {
        // Nobody listens if the import has ended already.
        let _ = walker.order.send(Err(error));
    }
}

struct Walker<'a> {
    jobs: Sender<Job<'a>>,
    order: Sender<Ordered<'a>>,
    pool: &'a Pool<'a>,
    number: u64,
    steps: Vec<Step>,
    leaves: usize,
    directories: usize,
}

struct Frame {
    dir: Arc<Dir>,
    listing: Listing,
    next: usize,
}

impl Walker<'_> {
    fn tree(&mut self, path: &Path) -> Result<(), ImportError> {
        let root = |act| {
            move |errno: Errno| ImportError::Io {
                act,
                path: path.to_owned(),
                source: errno.into(),
            }
        };
        let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(root("examine"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let fd = openat(CWD, path, directory_flags(), Mode::empty())
                .map_err(root("open the directory"))?;
            return self.directory(Frame::list(fd, Origin::Root(path.to_owned()))?);
        }
        // Only the path of a directory ends in no name.
        let name = path.file_name().unwrap_or_default().as_bytes();
        let name = PathComponent::try_from(name).map_err(|error| ImportError::Invalid {
            path: path.to_owned(),
            source: error.into(),
        })?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let nearest = match parent.as_os_str().as_bytes() {
            b"" => Path::new("."),
            _ => parent,
        };
        let fd = openat(
            CWD,
            nearest,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(root("open the directory of"))?;
        let stamp = Stamp::of(&fstat(&fd).map_err(root("examine the directory of"))?);
        let dir = Arc::new(Dir {
            fd,
            origin: Origin::Root(parent.to_owned()),
            stamp,
        });
        self.leaf(Place { dir, name }, kind)
    }

    fn directory(&mut self, root: Frame) -> Result<(), ImportError> {
        let mut stack = Vec::new();
        self.enter(&root)?;
        stack.push(root);
        while let Some(frame) = stack.last_mut() {
            let Some((name, kind)) = frame.listing.get(frame.next) else {
                stack.pop();
                self.push(Step::Leave)?;
                continue;
            };
            frame.next += 1;
            let place = Place {
                dir: frame.dir.clone(),
                name: PathComponent::try_from(name).map_err(frame.dir.error(|path, error| {
                    ImportError::Invalid {
                        path,
                        source: crate::DirectoryError::Name(error),
                    }
                }))?,
            };
            let kind = match kind {
                FileType::Unknown => {
                    let name = place.name.as_bytes();
                    let stat = statat(&place.dir.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(place.io("examine"))?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            if kind != FileType::Directory {
                self.leaf(place, kind)?;
                continue;
            }
            if stack.len() == MAX_DEPTH {
                return Err(ImportError::TooDeep {
                    path: place.path(),
                    limit: MAX_DEPTH,
                });
            }
            let name = place.name.as_bytes();
            let fd = openat(&place.dir.fd, name, directory_flags(), Mode::empty())
                .map_err(place.io("open the directory"))?;
            let frame = Frame::list(fd, Origin::Entry(place))?;
            self.enter(&frame)?;
            stack.push(frame);
        }
        Ok(())
    }

    fn enter(&mut self, frame: &Frame) -> Result<(), ImportError> {
        self.directories += 1;
        self.push(Step::Enter(frame.dir.clone()))
    }

    fn leaf(&mut self, place: Place, kind: FileType) -> Result<(), ImportError> {
        self.leaves += 1;
        match kind {
            FileType::RegularFile => self.push(Step::File(place)),
            FileType::Symlink => self.push(Step::Symlink(place)),
            kind => Err(unsupported(place.path(), kind)),
        }
    }

    fn push(&mut self, step: Step) -> Result<(), ImportError> {
        self.steps.push(step);
        if self.leaves < JOB_LEAVES && self.directories < JOB_DIRECTORIES {
            return Ok(());
        }
        self.send_job()
    }

    fn send_job(&mut self) -> Result<(), ImportError> {
        self.pool.check()?;
        if self.steps.is_empty() {
            return Ok(());
        }
        let (chunks, receiver) = unbounded();
        let job = Job {
            number: self.number,
            steps: std::mem::take(&mut self.steps),
            chunks,
        };
        (self.number, self.leaves, self.directories) = (self.number + 1, 0, 0);
        // A channel is closed only if the import ends.
        self.order
            .send(Ok(receiver))
            .map_err(|_| ImportError::Cancelled)?;
        self.jobs.send(job).map_err(|_| ImportError::Cancelled)
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The refusal of a file that is neither regular nor a symlink.
pub(super) fn unsupported(path: PathBuf, kind: FileType) -> ImportError {
    let kind = match kind {
        FileType::Socket => FileKind::Socket,
        FileType::Fifo => FileKind::Fifo,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        _ => FileKind::Unknown,
    };
    ImportError::Unsupported { path, kind }
}

impl Frame {
    fn list(fd: OwnedFd, origin: Origin) -> Result<Self, ImportError> {
        let mut dir = Dir {
            fd,
            origin,
            stamp: Stamp::default(),
        };
        dir.stamp = Stamp::of(&fstat(&dir.fd).map_err(dir.io("examine"))?);
        let listing = Listing::read(&dir)?;
        dir.check()?;
        Ok(Self {
            dir: Arc::new(dir),
            listing,
            next: 0,
        })
    }
}

/// The names of a directory, sorted by their bytes.
struct Listing {
    names: Bytes,
    /// Where in `names` a name begins, its length, and what it names.
    entries: Vec<(usize, u32, FileType)>,
}

impl Listing {
    fn read(dir: &Dir) -> Result<Self, ImportError> {
        let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
        let mut names = Vec::new();
        let mut entries = Vec::new();
        let mut raw = RawDir::new(&dir.fd, &mut buffer);
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(dir.io("list the directory"))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            entries.push((names.len(), name.len() as u32, entry.file_type()));
            names.extend_from_slice(name);
        }
        entries.sort_unstable_by(|a, b| {
            names[a.0..][..a.1 as usize].cmp(&names[b.0..][..b.1 as usize])
        });
        Ok(Self {
            names: names.into(),
            entries,
        })
    }

    fn get(&self, index: usize) -> Option<(Bytes, FileType)> {
        let &(start, len, kind) = self.entries.get(index)?;
        Some((self.names.slice(start..start + len as usize), kind))
    }
}
