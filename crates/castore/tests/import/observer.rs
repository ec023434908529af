//! What a [`TreeObserver`] sees.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use castore::{
    Digest,
    import::{ImportError, ObserverError, TreeObserver},
};

use crate::{Services, content, symlink};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Enter,
    Name(Vec<u8>),
    /// A whole file: whether it is executable, its size, its contents' digest.
    File(bool, u64, Digest),
    Symlink(Vec<u8>),
    Leave,
}

/// Notes what it sees, and fails once it has seen so many events.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) events: Vec<Event>,
    pub(crate) limit: Option<usize>,
    open: Option<(bool, u64, Vec<u8>)>,
}

impl Recorder {
    fn note(&mut self, event: Event) -> Result<(), ObserverError> {
        assert!(self.open.is_none(), "{event:?} within a file");
        if self.limit == Some(self.events.len()) {
            return Err("seen enough".into());
        }
        self.events.push(event);
        Ok(())
    }

    /// What is to be seen of the tree at `path`.
    pub(crate) fn of_disk(path: &Path) -> Self {
        let mut recorder = Self::default();
        recorder.disk(path).unwrap();
        recorder
    }

    fn disk(&mut self, path: &Path) -> Result<(), ObserverError> {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_symlink() {
            return self.symlink(fs::read_link(path)?.as_os_str().as_bytes());
        }
        if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            let event = Event::File(executable, metadata.len(), Digest::of(&fs::read(path)?));
            return self.note(event);
        }
        self.enter_directory()?;
        let mut names = (fs::read_dir(path)?)
            .map(|entry| Ok(entry?.file_name().as_bytes().to_vec()))
            .collect::<Result<Vec<_>, ObserverError>>()?;
        names.sort();
        for name in names {
            self.entry(&name)?;
            self.disk(&path.join(OsStr::from_bytes(&name)))?;
        }
        self.leave_directory()
    }
}

impl TreeObserver for Recorder {
    fn enter_directory(&mut self) -> Result<(), ObserverError> {
        self.note(Event::Enter)
    }

    fn entry(&mut self, name: &[u8]) -> Result<(), ObserverError> {
        self.note(Event::Name(name.to_vec()))
    }

    fn leave_directory(&mut self) -> Result<(), ObserverError> {
        self.note(Event::Leave)
    }

    fn begin_file(&mut self, executable: bool, size: u64) -> Result<(), ObserverError> {
        assert!(self.open.is_none());
        self.open = Some((executable, size, Vec::new()));
        Ok(())
    }

    fn contents(&mut self, bytes: &[u8]) -> Result<(), ObserverError> {
        assert!(!bytes.is_empty());
        self.open.as_mut().unwrap().2.extend(bytes);
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), ObserverError> {
        let (executable, size, bytes) = self.open.take().unwrap();
        assert_eq!(bytes.len() as u64, size);
        self.note(Event::File(executable, size, Digest::of(&bytes)))
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), ObserverError> {
        self.note(Event::Symlink(target.to_vec()))
    }
}

#[test]
fn it_sees_the_tree_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    // By the bytes of the whole name: "a" < "a-b" < "a.b" < "a0" < "ab".
    for name in ["ab", "a0", "a-b"] {
        fs::create_dir_all(root.join(name).join("inner")).unwrap();
        fs::write(root.join(name).join("inner/file"), name).unwrap();
    }
    fs::create_dir(root.join("a")).unwrap();
    fs::write(root.join("a.b"), content(9, 5_000_000)).unwrap();
    symlink("t", root.join("z")).unwrap();
    let mut recorder = Recorder::default();
    Services::default().observed(&root, &mut recorder).unwrap();
    assert_eq!(recorder.events, Recorder::of_disk(&root).events);
    let names: Vec<_> = (recorder.events.iter())
        .filter_map(|event| match event {
            Event::Name(name) => Some(str::from_utf8(name).unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(
        names,
        [
            "a", "a-b", "inner", "file", "a.b", "a0", "inner", "file", "ab", "inner", "file", "z"
        ]
    );
}

#[test]
fn its_failure_ends_the_import() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(
            dir.path().join(format!("{number:04}")),
            content(number, 900),
        )
        .unwrap();
    }
    for limit in [0, 1, 2, 100, 3000, 6000, 6001] {
        let mut recorder = Recorder {
            limit: Some(limit),
            ..Recorder::default()
        };
        let error = Services::default()
            .observed(dir.path(), &mut recorder)
            .unwrap_err();
        assert!(matches!(error, ImportError::Observer(_)), "{error}");
        assert_eq!(error.to_string(), "seen enough");
        assert_eq!(recorder.events.len(), limit);
    }
}

#[test]
fn its_panic_reaches_the_caller() {
    struct Panics;
    impl TreeObserver for Panics {
        fn enter_directory(&mut self) -> Result<(), ObserverError> {
            Ok(())
        }
        fn entry(&mut self, name: &[u8]) -> Result<(), ObserverError> {
            assert!(name != b"1500", "on purpose");
            Ok(())
        }
        fn leave_directory(&mut self) -> Result<(), ObserverError> {
            Ok(())
        }
        fn begin_file(&mut self, _: bool, _: u64) -> Result<(), ObserverError> {
            Ok(())
        }
        fn contents(&mut self, _: &[u8]) -> Result<(), ObserverError> {
            Ok(())
        }
        fn end_file(&mut self) -> Result<(), ObserverError> {
            Ok(())
        }
        fn symlink(&mut self, _: &[u8]) -> Result<(), ObserverError> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(dir.path().join(format!("{number:04}")), b"").unwrap();
    }
    let panic = std::panic::catch_unwind(|| Services::default().observed(dir.path(), &mut Panics));
    assert!(panic.is_err());
}
