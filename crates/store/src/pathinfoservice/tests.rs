//! The contract, over every backend.

use std::{collections::BTreeSet, sync::Arc};

use castore::{
    Digest, Node,
    local::{LocalStore, Options},
};
use nix_compat::StorePath;

use super::*;
use crate::{PathInfo, PathInfoError};

fn info(number: u8) -> PathInfo {
    let store_path = StorePath::new([number; 20], format!("name-{number}")).unwrap();
    PathInfo {
        node: Node::File {
            digest: Digest::of(&[number]),
            size: 1,
            executable: false,
        },
        references: [
            store_path.clone(),
            StorePath::new([0; 20], "other").unwrap(),
        ]
        .into(),
        store_path,
        nar_size: u64::from(number),
        nar_sha256: [number; 32],
        signatures: Vec::new(),
        deriver: None,
        ca: None,
    }
}

fn local() -> (tempfile::TempDir, Arc<LocalStore>) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        create: true,
        ..Options::default()
    };
    let store = LocalStore::open(dir.path(), &options).unwrap();
    (dir, store)
}

fn contract(service: &dyn PathInfoService) {
    assert_eq!(service.list().count(), 0);
    assert_eq!(service.get(&[1; 20]).unwrap(), None);
    for number in 1..=3 {
        service.put(&info(number)).unwrap();
    }
    assert_eq!(service.get(&[2; 20]).unwrap(), Some(info(2)));
    assert_eq!(service.get(&[4; 20]).unwrap(), None);

    let mut newer = info(2);
    newer.nar_size = 99;
    service.put(&newer).unwrap();
    service.put(&newer).unwrap();
    assert_eq!(service.get(&[2; 20]).unwrap(), Some(newer));
    let listed: BTreeSet<_> = service
        .list()
        .map(|info| info.unwrap().store_path)
        .collect();
    let expected = (1..=3).map(|number| info(number).store_path).collect();
    assert_eq!(listed, expected);
    assert_eq!(service.list().count(), 3);
}

#[test]
fn memory_keeps_the_contract() {
    contract(&MemoryPathInfoService::default());
}

#[test]
fn local_keeps_the_contract() {
    let (_dir, store) = local();
    contract(&LocalPathInfoService::new(store));
}

#[test]
fn cache_keeps_the_contract() {
    let near = Arc::new(MemoryPathInfoService::default());
    let far = Arc::new(MemoryPathInfoService::default());
    contract(&CachePathInfoService::new(near, far));
}

#[test]
fn local_is_durable_when_put_returns() {
    let (dir, store) = local();
    LocalPathInfoService::new(store).put(&info(7)).unwrap();
    let again = LocalStore::open(dir.path(), &Options::default()).unwrap();
    let service = LocalPathInfoService::new(again);
    assert_eq!(service.get(&[7; 20]).unwrap(), Some(info(7)));
}

#[test]
fn cache_keeps_near_what_was_far() {
    let near = Arc::new(MemoryPathInfoService::default());
    let far = Arc::new(MemoryPathInfoService::default());
    far.put(&info(1)).unwrap();
    let cache = CachePathInfoService::new(near.clone(), far);
    assert_eq!(near.get(&[1; 20]).unwrap(), None);
    assert_eq!(cache.get(&[1; 20]).unwrap(), Some(info(1)));
    assert_eq!(near.get(&[1; 20]).unwrap(), Some(info(1)));
}

/// Fails whatever it is asked.
#[derive(Debug)]
struct Broken;

fn broken() -> Error {
    Error::Castore(castore::Error::Backend {
        place: "test".to_owned(),
        detail: "broken".to_owned(),
    })
}

impl PathInfoService for Broken {
    fn get(&self, _: &[u8; 20]) -> Result<Option<PathInfo>, Error> {
        Err(broken())
    }

    fn put(&self, _: &PathInfo) -> Result<(), Error> {
        Err(broken())
    }

    fn list(&self) -> Box<dyn Iterator<Item = Result<PathInfo, Error>> + Send + '_> {
        Box::new(std::iter::once(Err(broken())))
    }
}

#[test]
fn a_broken_near_service_does_not_matter() {
    let far = Arc::new(MemoryPathInfoService::default());
    let cache = CachePathInfoService::new(Arc::new(Broken), far);
    contract(&cache);
    let cache =
        CachePathInfoService::new(Arc::new(MemoryPathInfoService::default()), Arc::new(Broken));
    assert!(cache.get(&[1; 20]).is_err());
    assert!(cache.put(&info(1)).is_err());
}

#[test]
fn local_names_a_record_that_is_none_of_its_own() {
    use castore::local::RecordKey;
    let (_dir, store) = local();
    let service = LocalPathInfoService::new(store.clone());
    service.put(&info(1)).unwrap();
    let session = store.begin().unwrap();
    session.put_record(&RecordKey([0xff; 32]), b"").unwrap();
    let mut key = [0; 32];
    key[..20].copy_from_slice(&[5; 20]);
    session.put_record(&RecordKey(key), b"nonsense").unwrap();
    key[..20].copy_from_slice(&[6; 20]);
    session
        .put_record(&RecordKey(key), &info(1).encode())
        .unwrap();
    session.commit().unwrap();

    assert!(matches!(
        service.get(&[5; 20]),
        Err(Error::Damaged { digest, .. }) if digest == [5; 20]
    ));
    assert!(matches!(
        service.get(&[6; 20]),
        Err(Error::Damaged {
            source: PathInfoError::WrongKey { .. },
            ..
        })
    ));
    let listed: Vec<_> = service.list().collect();
    assert_eq!(listed.iter().filter(|info| info.is_ok()).count(), 1);
    assert_eq!(listed.len(), 4);
}
