//! Every way in which an import fails: with the right error, and at all, for
//! none of its threads may be left waiting.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use castore::{
    BlobService, Digest, DirectoryService, Error, Node, PathComponent,
    blobservice::FaultyBlobService,
    directoryservice::FaultyDirectoryService,
    fault::{Call, Fault, Faults, Rule},
    import::{FileKind, ImportError, Options, import},
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{Services, content, set_mode, symlink};

/// More files than the pipeline holds at once, and some directories.
fn wide_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..4000 {
        let sub = dir.path().join(format!("{:02}", number / 100));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("{number:04}")), content(number, number)).unwrap();
    }
    dir
}

struct Faulty {
    services: Services,
    faults: std::sync::Arc<Faults>,
}

impl Faulty {
    fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let faults = Faults::new();
        rules.into_iter().for_each(|rule| faults.add(rule));
        Self {
            services: Services::default(),
            faults,
        }
    }

    fn import(&self, path: &Path, options: &Options<'_>) -> Result<Node, ImportError> {
        let blobs = FaultyBlobService::new(self.services.blobs.clone(), self.faults.clone());
        let directories =
            FaultyDirectoryService::new(self.services.directories.clone(), self.faults.clone());
        import(path, &blobs, &directories, &mut (), options)
    }

    /// Imports, and does `act` as soon as the import hangs in a fault.
    fn interrupt(
        &self,
        path: &Path,
        options: &Options<'_>,
        act: impl FnOnce(),
    ) -> Result<Node, ImportError> {
        thread::scope(|scope| {
            let importing = scope.spawn(|| self.import(path, options));
            self.faults.await_hanging(1);
            // The readers go on until they have no buffer left.
            thread::sleep(Duration::from_millis(300));
            act();
            self.faults.clear();
            self.faults.release();
            importing.join().unwrap()
        })
    }
}

#[test]
fn special_files_are_refused_by_name() {
    let dir = wide_tree();
    let path = dir.path().join("20/special");
    let make = |kind, mode| mknodat(CWD, &path, kind, Mode::from_raw_mode(mode), 0).unwrap();
    let refused = |kind| {
        for path in [dir.path(), &path] {
            let error = Services::default().import(path).unwrap_err();
            let ImportError::Unsupported { path, kind: found } = &error else {
                panic!("{error}");
            };
            assert_eq!((path, *found), (&dir.path().join("20/special"), kind));
            assert!(error.to_string().contains(&kind.to_string()), "{error}");
        }
        fs::remove_file(&path).unwrap();
    };
    make(FileType::Fifo, 0o600);
    refused(FileKind::Fifo);
    drop(UnixListener::bind(&path).unwrap());
    refused(FileKind::Socket);
    let null = Path::new("/dev/null");
    assert!(fs::metadata(null).unwrap().file_type().is_char_device());
    let error = Services::default().import(null).unwrap_err();
    assert!(
        matches!(&error, ImportError::Unsupported { path, kind: FileKind::CharacterDevice } if path == null),
        "{error}"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("absent"), dir.path().join("absent/below")] {
        let error = Services::default().import(&path).unwrap_err();
        assert!(matches!(&error, ImportError::Io { path: named, .. } if *named == path));
        assert!(error.to_string().contains("absent"), "{error}");
    }
    assert!(matches!(
        Services::default().import(Path::new("")),
        Err(ImportError::Io { .. })
    ));
}

/// Does it as an ordinary user, whom permissions concern.
fn without_privilege<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                // For this thread and those that it starts, no others.
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
            }
            act()
        });
        thread.join().unwrap()
    })
}

#[test]
fn what_may_not_be_read_is_named() {
    let dir = wide_tree();
    set_mode(dir.path(), 0o755);
    let forbidden: [PathBuf; 2] = [dir.path().join("20/2050"), dir.path().join("30")];
    for path in forbidden {
        let mode = fs::metadata(&path).unwrap().permissions();
        set_mode(&path, 0);
        let error = without_privilege(|| Services::default().import(dir.path()).unwrap_err());
        let ImportError::Io {
            path: named,
            source,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(*named, path);
        assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
        fs::set_permissions(&path, mode).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    // The kernel refuses to read a process's address 0.
    let path = Path::new("/proc/self/mem");
    let error = Services::default().import(path).unwrap_err();
    assert!(
        matches!(&error, ImportError::Io { act: "read", path: named, .. } if named == path),
        "{error}"
    );
}

#[test]
fn a_file_with_more_bytes_than_it_says_is_refused() {
    // Its size is 0, as is that of all files in /proc.
    let error = Services::default()
        .import(Path::new("/proc/self/status"))
        .unwrap_err();
    assert!(matches!(error, ImportError::Changed { .. }), "{error}");
}

#[test]
fn nesting_too_deep_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let levels = |count| dir.path().join(["d"; 600][..count].join("/"));
    fs::create_dir_all(levels(511)).unwrap();
    let services = Services::default();
    let node = services.import(dir.path()).unwrap();
    assert_eq!(node, crate::reference::node(dir.path()));
    fs::create_dir_all(levels(512)).unwrap();
    let error = services.import(dir.path()).unwrap_err();
    assert!(
        matches!(&error, ImportError::TooDeep { path, limit: 512 } if *path == levels(512)),
        "{error}"
    );
}

#[test]
fn a_file_that_changes_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let changes: [fn(&Path); 3] = [
        |path| {
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        },
        |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(50 << 20).unwrap();
        },
        |path| {
            let mut file = File::options().write(true).open(path).unwrap();
            file.write_all(b"other").unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let file = File::create(&path).unwrap();
        file.set_len(70 << 20).unwrap();
        // Beginning to write the blob hangs, and so, in the end, does reading.
        let faulty = Faulty::new([Rule::new(Call::Writer, Fault::Hang)]);
        let result = faulty.interrupt(dir.path(), &Options::default(), || change(&path));
        let error = result.unwrap_err();
        assert!(
            matches!(&error, ImportError::Changed { path: named, .. } if *named == path),
            "{number}: {error}"
        );
    }
}

#[test]
fn a_directory_that_changes_while_it_is_imported() {
    let changes: [fn(&Path); 3] = [
        |dir| fs::write(dir.join("new"), b"").unwrap(),
        |dir| fs::remove_file(dir.join("0005")).unwrap(),
        |dir| fs::rename(dir.join("0005"), dir.join("5000")).unwrap(),
    ];
    for change in changes {
        let dir = wide_tree();
        let changed = dir.path().join("00");
        let faulty = Faulty::new([Rule::new(Call::Put, Fault::Hang).after(3)]);
        let result = faulty.interrupt(dir.path(), &Options::default(), || change(&changed));
        let error = result.unwrap_err();
        assert!(
            matches!(&error, ImportError::Changed { path, .. } if *path == changed),
            "{error}"
        );
    }
}

#[test]
fn an_entry_that_is_replaced_is_not_followed() {
    let replacements: [fn(&Path); 4] = [
        |path| symlink("/etc/passwd", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| drop(UnixListener::bind(path).unwrap()),
        |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
    ];
    let dir = wide_tree();
    let path = dir.path().join("39/3999");
    for replace in replacements {
        let faulty = Faulty::new([Rule::new(Call::Put, Fault::Hang)]);
        let result = faulty.interrupt(dir.path(), &Options::default(), || {
            fs::remove_file(&path).unwrap();
            replace(&path);
        });
        // The directory was listed after that, or its file opened: nothing
        // that is read is ever outside of the tree.
        match result {
            Ok(node) => assert_eq!(node, crate::reference::node(dir.path())),
            Err(
                ImportError::Changed { path: named, .. }
                | ImportError::Unsupported { path: named, .. },
            ) => assert_eq!(named, path),
            Err(error) => panic!("{error}"),
        }
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir(&path))
            .unwrap();
        fs::write(&path, b"regular").unwrap();
    }
}

#[test]
fn a_failing_service_ends_the_import() {
    let dir = wide_tree();
    fs::write(dir.path().join("05/big"), content(0, 3_000_000)).unwrap();
    for call in [Call::Put, Call::Writer, Call::Write, Call::Finish] {
        for after in [0, 1, 1000] {
            let faulty = Faulty::new([Rule::new(call, Fault::Fail).after(after)]);
            let result = faulty.import(dir.path(), &Options::default());
            if faulty.faults.calls(call) <= after {
                result.unwrap();
                continue;
            }
            let error = result.unwrap_err();
            assert!(
                matches!(
                    &error,
                    ImportError::Store { path, source: Error::Backend { .. } }
                        if path.starts_with(dir.path())
                ),
                "{error}"
            );
        }
    }
    // The directory that could not be stored is named.
    let (blobs, directories) = (Services::default(), Faults::new());
    directories.add(Rule::new(Call::Put, Fault::Fail).after(7));
    let error = import(
        dir.path(),
        &*blobs.blobs,
        &FaultyDirectoryService::new(blobs.directories.clone(), directories),
        &mut (),
        &Options::default(),
    )
    .unwrap_err();
    assert!(
        matches!(&error, ImportError::Store { path, .. } if *path == dir.path().join("07")),
        "{error}"
    );
}

#[test]
fn children_are_stored_before_their_directory() {
    let dir = wide_tree();
    for after in [0, 50, 2000] {
        let faulty = Faulty::new([Rule::new(Call::Put, Fault::Fail).after(after)]);
        faulty.import(dir.path(), &Options::default()).unwrap_err();
        for number in 0..40 {
            let path = dir.path().join(format!("{number:02}"));
            let Node::Directory { digest, .. } = crate::reference::node(&path) else {
                panic!("{path:?}");
            };
            let services = &faulty.services;
            let Some(directory) = services.directories.get(&digest).unwrap() else {
                continue;
            };
            for entry in directory.entries() {
                let Node::File { digest, .. } = entry.node else {
                    panic!("{entry:?}");
                };
                assert!(services.blobs.has(&digest).unwrap());
            }
        }
    }
}

#[test]
fn cancelling_ends_the_import_soon() {
    let dir = wide_tree();
    let cancel = AtomicBool::new(false);
    let options = Options {
        cancel: Some(&cancel),
        ..Options::default()
    };
    let faulty = Faulty::new([Rule::new(Call::Put, Fault::Hang).after(100)]);
    let mut since = None;
    let result = faulty.interrupt(dir.path(), &options, || {
        cancel.store(true, Ordering::Relaxed);
        since = Some(Instant::now());
    });
    assert!(matches!(result, Err(ImportError::Cancelled)));
    assert!(since.unwrap().elapsed() < Duration::from_secs(5));
    // What was not yet stored then was not stored afterwards.
    assert!(faulty.faults.calls(Call::Put) < 200);

    let result = faulty.import(dir.path(), &options);
    assert!(matches!(result, Err(ImportError::Cancelled)));
}

#[test]
fn the_earliest_error_in_the_tree_is_reported() {
    let dir = wide_tree();
    for name in ["10/special", "11/special", "39/special"] {
        let path = dir.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    }
    for _ in 0..20 {
        let error = Services::default().import(dir.path()).unwrap_err();
        assert!(
            matches!(&error, ImportError::Unsupported { path, .. } if *path == dir.path().join("10/special")),
            "{error}"
        );
    }
}

#[test]
fn the_same_file_twice_is_one_blob() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), b"same").unwrap();
    fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
    let services = Services::default();
    let Node::Directory { digest, .. } = services.import(dir.path()).unwrap() else {
        panic!();
    };
    let directory = services.directories.get(&digest).unwrap().unwrap();
    for name in ["a", "b"] {
        let name = PathComponent::try_from(name).unwrap();
        let (_, node) = directory.lookup(name.as_bytes()).unwrap();
        assert!(matches!(node, Node::File { digest, .. } if *digest == Digest::of(b"same")));
    }
}
