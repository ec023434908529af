use std::sync::Arc;

use castore::local::{LocalStore, RecordKey, Session};

use super::PathInfoService;
use crate::{Error, PathInfo, PathInfoError};

/// Path infos as records of a castore [`LocalStore`].
///
/// The record's key is the digest in the store path, followed by zeros; its
/// value is the encoded protobuf message.
#[derive(Debug, Clone)]
pub struct LocalPathInfoService {
    store: Arc<LocalStore>,
}

impl LocalPathInfoService {
    /// The path infos of `store`.
    pub fn new(store: Arc<LocalStore>) -> Self {
        Self { store }
    }

    /// Puts a path info into a session of the store: it becomes visible, and
    /// durable, when the session is committed.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn put_into(session: &Session, info: &PathInfo) -> Result<(), Error> {
        Ok(session.put_record(&key(info.store_path.digest()), &info.encode())?)
    }
}

impl PathInfoService for LocalPathInfoService {
    fn get(&self, digest: &[u8; 20]) -> Result<Option<PathInfo>, Error> {
        let Some(record) = self.store.record(&key(digest))? else {
            return Ok(None);
        };
        decode(digest, record).map(Some)
    }

    fn put(&self, info: &PathInfo) -> Result<(), Error> {
        let session = self.store.begin()?;
        Self::put_into(&session, info)?;
        Ok(session.commit()?)
    }

    fn list(&self) -> Box<dyn Iterator<Item = Result<PathInfo, Error>> + Send + '_> {
        let records = match self.store.records() {
            Ok(records) => records,
            Err(error) => return Box::new(std::iter::once(Err(error.into()))),
        };
        Box::new(records.map(|record| {
            let (key, record) = record?;
            let digest = digest(&key).ok_or_else(|| Error::ForeignRecord {
                key: castore::Digest::from_bytes(key.0).to_string(),
            })?;
            decode(&digest, record)
        }))
    }
}

pub(crate) fn key(digest: &[u8; 20]) -> RecordKey {
    let mut key = [0; 32];
    key[..20].copy_from_slice(digest);
    RecordKey(key)
}

pub(crate) fn digest(key: &RecordKey) -> Option<[u8; 20]> {
    let (digest, zeros) = key.0.split_first_chunk()?;
    zeros.iter().all(|byte| *byte == 0).then_some(*digest)
}

pub(crate) fn decode(digest: &[u8; 20], record: bytes::Bytes) -> Result<PathInfo, Error> {
    let damaged = |source| Error::Damaged {
        digest: *digest,
        source,
    };
    let info = PathInfo::decode(record).map_err(damaged)?;
    match info.store_path.digest() == digest {
        true => Ok(info),
        false => Err(damaged(PathInfoError::WrongKey {
            found: info.store_path,
        })),
    }
}
