use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::PathInfoService;
use crate::{Error, PathInfo};

/// Path infos in memory, for tests and small tools.
#[derive(Debug, Default)]
pub struct MemoryPathInfoService {
    infos: RwLock<BTreeMap<[u8; 20], PathInfo>>,
}

impl PathInfoService for MemoryPathInfoService {
    fn get(&self, digest: &[u8; 20]) -> Result<Option<PathInfo>, Error> {
        Ok(self.infos.read().get(digest).cloned())
    }

    fn put(&self, info: &PathInfo) -> Result<(), Error> {
        (self.infos.write()).insert(*info.store_path.digest(), info.clone());
        Ok(())
    }

    fn list(&self) -> Box<dyn Iterator<Item = Result<PathInfo, Error>> + Send + '_> {
        let mut next = std::ops::Bound::Unbounded;
        Box::new(std::iter::from_fn(move || {
            let infos = self.infos.read();
            let (digest, info) = infos.range((next, std::ops::Bound::Unbounded)).next()?;
            next = std::ops::Bound::Excluded(*digest);
            Some(Ok(info.clone()))
        }))
    }
}
