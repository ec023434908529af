use std::sync::Arc;

use super::PathInfoService;
use crate::{Error, PathInfo};

/// A far service, which has everything, behind a near one, which is faster.
///
/// The near service only helps: if it fails, or what it holds is damaged, that
/// is logged, and the far service answers. What is found there is kept near.
/// What is put goes to the far service, whose failure fails the call, and then
/// to the near one, whose failure does not.
#[derive(Debug)]
pub struct CachePathInfoService {
    near: Arc<dyn PathInfoService>,
    far: Arc<dyn PathInfoService>,
}

impl CachePathInfoService {
    /// Puts the two together.
    pub fn new(near: Arc<dyn PathInfoService>, far: Arc<dyn PathInfoService>) -> Self {
        Self { near, far }
    }

    fn keep(&self, info: &PathInfo) {
        if let Err(error) = self.near.put(info) {
            tracing::warn!(%error, path = %info.store_path, "the path info cannot be cached");
        }
    }
}

impl PathInfoService for CachePathInfoService {
    fn get(&self, digest: &[u8; 20]) -> Result<Option<PathInfo>, Error> {
        match self.near.get(digest) {
            Ok(Some(info)) => return Ok(Some(info)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the near path info cannot be used"),
        }
        let Some(info) = self.far.get(digest)? else {
            return Ok(None);
        };
        self.keep(&info);
        Ok(Some(info))
    }

    fn put(&self, info: &PathInfo) -> Result<(), Error> {
        self.far.put(info)?;
        self.keep(info);
        Ok(())
    }

    fn list(&self) -> Box<dyn Iterator<Item = Result<PathInfo, Error>> + Send + '_> {
        self.far.list()
    }
}
