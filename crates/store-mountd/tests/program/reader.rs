//! Somebody who uses a mount all the time.

use std::{
    fs,
    io::{Read as _, Seek as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Reads a tree over and over; every read must work and give the same.
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Reader {
    pub(crate) fn start(tree: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let thread = thread::spawn({
            let (stop, rounds) = (stop.clone(), rounds.clone());
            move || {
                let mut open = fs::File::open(tree.join("big")).unwrap();
                while !stop.load(Relaxed) {
                    let script = fs::read_to_string(tree.join("bin/run")).unwrap();
                    assert_eq!(script, "#!/bin/sh\necho run\n");
                    assert_eq!(
                        fs::read_link(tree.join("link")).unwrap(),
                        Path::new("bin/run")
                    );
                    assert_eq!(fs::read_dir(&tree).unwrap().count(), 6);
                    assert!(fs::metadata(tree.join("absent")).is_err());
                    // Not from the cache.
                    uncache(&open);
                    let mut big = Vec::new();
                    open.rewind().unwrap();
                    open.read_to_end(&mut big).unwrap();
                    assert!(big.len() == 3_000_000 && big.iter().all(|byte| *byte == 7));
                    rounds.fetch_add(1, Relaxed);
                }
            }
        });
        Self {
            stop,
            rounds,
            thread,
        }
    }

    /// Waits until everything was read once more from now on.
    pub(crate) fn once_more(&self) {
        let target = self.rounds.load(Relaxed) + 2;
        let end = Instant::now() + Duration::from_secs(30);
        while self.rounds.load(Relaxed) < target {
            assert!(!self.thread.is_finished(), "the reader failed");
            assert!(Instant::now() < end, "the reader is stuck");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap();
    }
}

/// Drops a file's pages from the cache.
fn uncache(file: &fs::File) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}
