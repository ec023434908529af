//! Getting the contents of one path.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use castore::{BlobService, DirectoryService};
use nix_compat::{NarInfo, NixHash, StorePath, narinfo::Compression};
use sha2::{Digest as _, Sha256, Sha512};

use super::{Trust, trust};
use crate::{
    Metadata, PathInfo, PathInfoError,
    nar::{self, IngestError},
};

/// Memory that an xz stream may claim; `xz -9`, the most that Nix writes,
/// claims 65 MiB.
const XZ_MEMORY: u64 = 256 * 1024 * 1024;
/// The logarithm of the window that a zstd stream may claim.
const ZSTD_WINDOW_LOG: u32 = 27;

pub(super) fn fetch(
    dir: &Path,
    trust: &Trust,
    info: NarInfo,
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
) -> Result<PathInfo, FetchError> {
    let store_path = info.store_path.clone();
    let fail = |kind| FetchError {
        store_path: store_path.clone(),
        kind: Box::new(kind),
    };
    let path = nar_path(dir, &info.url).map_err(fail)?;
    let open = |source| FetchErrorKind::Open {
        path: path.clone(),
        source,
    };
    let file = File::open(&path).map_err(open).map_err(fail)?;
    let mut file = Checked::new(file, &info).map_err(fail)?;

    let ingested = {
        let nar = decompress(&mut file, info.compression).map_err(fail)?;
        nar::ingest(Limited::new(nar, info.nar_size), blobs, directories)
    };
    // Damage shows as garbage to whoever decompresses or parses it: that the
    // file is not the one meant is the better message.
    file.finish(&path).map_err(fail)?;
    let ingested = ingested.map_err(|source| {
        fail(FetchErrorKind::Ingest {
            path: path.clone(),
            source: Box::new(source),
        })
    })?;

    let address = trust::address_to_check(&info, trust);
    let metadata = Metadata::from(info);
    if !metadata.matches(&ingested.nar) {
        return Err(fail(FetchErrorKind::NarMismatch {
            path,
            expected: NixHash::Sha256(metadata.nar_sha256).to_string(),
            expected_size: metadata.nar_size.unwrap_or_default(),
            found: NixHash::Sha256(ingested.nar.sha256).to_string(),
            found_size: ingested.nar.size,
        }));
    }
    let info = metadata
        .with_contents(ingested.node, ingested.nar.size)
        .map_err(|source| fail(FetchErrorKind::PathInfo(source)))?;
    if let Some(address) = address
        && !trust::contents_have(&address, &info, blobs)
            .map_err(|source| fail(FetchErrorKind::Store(source)))?
    {
        return Err(fail(FetchErrorKind::ContentAddress {
            address: address.to_string(),
        }));
    }
    Ok(info)
}

/// The file that a narinfo's URL names, which must be in the cache.
fn nar_path(dir: &Path, url: &str) -> Result<PathBuf, FetchErrorKind> {
    let sound =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    match url.split('/').all(sound) {
        true => Ok(dir.join(url)),
        false => Err(FetchErrorKind::Url {
            url: url.to_owned(),
        }),
    }
}

fn decompress<'a>(
    file: &'a mut Checked,
    compression: Compression,
) -> Result<Box<dyn Read + 'a>, FetchErrorKind> {
    let file = BufReader::with_capacity(nar::BUFFER_LEN, file);
    let start = |source| FetchErrorKind::Decompressor {
        compression,
        source,
    };
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )
            .map_err(|error| start(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(start)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(start)?;
            Box::new(decoder)
        }
        Compression::Brotli
        | Compression::Bzip2
        | Compression::Compress
        | Compression::Grzip
        | Compression::Gzip
        | Compression::Lrzip
        | Compression::Lz4
        | Compression::Lzip
        | Compression::Lzma
        | Compression::Lzop => return Err(FetchErrorKind::Compression { compression }),
    })
}

/// The compressed file, hashed as it is read.
struct Checked {
    file: File,
    hasher: Hasher,
    expected: Option<NixHash>,
    expected_size: Option<u64>,
    size: u64,
}

enum Hasher {
    None,
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Checked {
    fn new(file: File, info: &NarInfo) -> Result<Self, FetchErrorKind> {
        let hasher = match info.file_hash {
            None => Hasher::None,
            Some(NixHash::Sha256(_)) => Hasher::Sha256(Sha256::new()),
            Some(NixHash::Sha512(_)) => Hasher::Sha512(Sha512::new()),
            Some(hash @ (NixHash::Md5(_) | NixHash::Sha1(_))) => {
                return Err(FetchErrorKind::FileHash {
                    hash: hash.to_string(),
                });
            }
        };
        Ok(Self {
            file,
            hasher,
            expected: info.file_hash,
            expected_size: info.file_size,
            size: 0,
        })
    }

    /// Reads what is left, if it is within the size expected, and compares.
    fn finish(mut self, path: &Path) -> Result<(), FetchErrorKind> {
        let read = io::copy(&mut self, &mut io::sink());
        if let Err(source) = read
            && source.kind() != io::ErrorKind::FileTooLarge
        {
            return Err(FetchErrorKind::Open {
                path: path.to_owned(),
                source,
            });
        }
        if let Some(expected) = self.expected_size
            && expected != self.size
        {
            return Err(FetchErrorKind::FileSize {
                path: path.to_owned(),
                expected,
            });
        }
        let found = match self.hasher {
            Hasher::None => None,
            Hasher::Sha256(hasher) => Some(NixHash::Sha256(hasher.finalize().into())),
            Hasher::Sha512(hasher) => Some(NixHash::Sha512(hasher.finalize().into())),
        };
        match (self.expected, found) {
            (Some(expected), Some(found)) if expected != found => {
                Err(FetchErrorKind::FileMismatch {
                    path: path.to_owned(),
                    expected: expected.to_string(),
                    found: found.to_string(),
                })
            }
            _ => Ok(()),
        }
    }
}

impl Read for Checked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(buf)?;
        self.size += len as u64;
        if self
            .expected_size
            .is_some_and(|expected| self.size > expected)
        {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the file is larger than its narinfo says",
            ));
        }
        match &mut self.hasher {
            Hasher::None => {}
            Hasher::Sha256(hasher) => hasher.update(&buf[..len]),
            Hasher::Sha512(hasher) => hasher.update(&buf[..len]),
        }
        Ok(len)
    }
}

/// A reader that fails when it gets more than a number of bytes, so that a
/// small file cannot fill the store.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R> Limited<R> {
    fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.left = self.left.checked_sub(len as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the NAR is larger than its narinfo says",
            )
        })?;
        Ok(len)
    }
}

/// A path that could not be fetched, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {store_path}")]
pub struct FetchError {
    /// The path.
    pub store_path: StorePath,
    /// Why not.
    #[source]
    pub kind: Box<FetchErrorKind>,
}

/// Why a path could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchErrorKind {
    /// The URL of the NAR leads out of the cache, or to another host.
    #[error("the URL {url:?} of its NAR is not that of a file in the cache")]
    Url {
        /// The URL.
        url: String,
    },
    /// The NAR's file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The NAR is compressed in a way that is not supported.
    #[error("its NAR is compressed with {compression}; supported are none, xz and zstd")]
    Compression {
        /// The compression.
        compression: Compression,
    },
    /// The decompressor did not start.
    #[error("cannot start to decompress its NAR with {compression}: {source}")]
    Decompressor {
        /// The compression.
        compression: Compression,
        /// What the decompressor said.
        source: io::Error,
    },
    /// The file's hash is of a kind that is not supported.
    #[error("the hash {hash} of its file is neither SHA-256 nor SHA-512")]
    FileHash {
        /// The hash.
        hash: String,
    },
    /// The file has another size than its narinfo says.
    #[error("{} has not the {expected} bytes that its narinfo says", path.display())]
    FileSize {
        /// The file.
        path: PathBuf,
        /// The size it should have.
        expected: u64,
    },
    /// The file has another hash than its narinfo says.
    #[error("{} is damaged: its hash is {found}, not {expected}", path.display())]
    FileMismatch {
        /// The file.
        path: PathBuf,
        /// The hash it should have.
        expected: String,
        /// The hash it has.
        found: String,
    },
    /// The NAR is invalid or could not be stored.
    #[error("cannot unpack {}", path.display())]
    Ingest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<IngestError>,
    },
    /// The NAR is another than its narinfo says.
    #[error(
        "the NAR in {} has the hash {found} and {found_size} bytes, but should have {expected} and \
         {expected_size}",
        path.display()
    )]
    NarMismatch {
        /// The file.
        path: PathBuf,
        /// The hash it should have.
        expected: String,
        /// The size it should have.
        expected_size: u64,
        /// The hash it has.
        found: String,
        /// The size it has.
        found_size: u64,
    },
    /// The narinfo cannot be kept.
    #[error("its narinfo is invalid: {0}")]
    PathInfo(#[source] PathInfoError),
    /// The contents could not be read back.
    #[error("cannot read back its contents: {0}")]
    Store(#[source] castore::Error),
    /// Nothing vouches for the path but its content address, which is wrong.
    #[error("its contents are not those of its content address {address}")]
    ContentAddress {
        /// The content address.
        address: String,
    },
}
