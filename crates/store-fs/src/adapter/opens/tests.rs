use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use castore::Digest;

use super::*;

#[derive(Debug, Default)]
struct Numbers {
    known: Mutex<HashSet<u32>>,
    last: Mutex<u32>,
    refuse: AtomicBool,
    /// The kernel cannot be told.
    is_mute: AtomicBool,
}

impl Backing for Numbers {
    fn register(&self, _: &File) -> io::Result<u32> {
        if self.refuse.load(Relaxed) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut last = self.last.lock();
        *last += 1;
        self.known.lock().insert(*last);
        Ok(*last)
    }

    fn unregister(&self, id: u32) -> io::Result<()> {
        if self.is_mute.load(Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        assert!(self.known.lock().remove(&id), "{id} is not known");
        Ok(())
    }
}

fn state() -> Arc<State> {
    Arc::new(State::new().expect("a state"))
}

fn files() -> OpenFiles {
    OpenFiles::new(&state()).expect("it is new")
}

fn id(content: &str, executable: bool) -> FileId {
    FileId {
        digest: Digest::of(content.as_bytes()),
        executable,
    }
}

fn some_file() -> Result<Option<Arc<File>>, FsError> {
    let file = File::open("/dev/null").expect("it is everywhere");
    Ok(Some(Arc::new(file)))
}

#[test]
fn who_opens_the_same_shares_a_number() {
    let (files, numbers) = (files(), Numbers::default());
    let open = |content, x| files.open(id(content, x), &numbers, some_file);
    let a = open("a", false).expect("opened");
    assert!(a.backing.is_some());
    assert_eq!(open("a", false).expect("opened"), a);
    let x = open("a", true).expect("opened");
    assert_ne!(x.backing, a.backing, "another inode");
    assert_eq!(numbers.known.lock().len(), 2);
    files.release(a.handle, &numbers);
    assert_eq!(numbers.known.lock().len(), 2);
    files.release(a.handle, &numbers);
    files.release(x.handle, &numbers);
    assert!(numbers.known.lock().is_empty());
    // The kernel may be mistaken.
    files.release(a.handle, &numbers);
    assert_ne!(open("a", false).expect("opened").handle, a.handle);
}

#[test]
fn what_is_open_stays_as_it_was_opened() {
    let (files, numbers) = (files(), Numbers::default());
    let file = id("a", false);
    let first = files.open(file, &numbers, || Ok(None)).expect("opened");
    assert_eq!(first.backing, None);
    let second = files.open(file, &numbers, some_file).expect("opened");
    assert_eq!(second, first, "although there is a file now");
    files.release(first.handle, &numbers);
    files.release(first.handle, &numbers);
    let third = files.open(file, &numbers, some_file).expect("opened");
    assert!(third.backing.is_some());
}

#[test]
fn what_the_kernel_refuses_is_read_otherwise() {
    let (files, numbers) = (files(), Numbers::default());
    numbers.refuse.store(true, Relaxed);
    let opened = files.open(id("a", false), &numbers, some_file);
    assert_eq!(opened.expect("opened").backing, None);
}

#[test]
fn what_cannot_be_had_is_not_open() {
    let (files, numbers) = (files(), Numbers::default());
    let file = id("a", false);
    assert!(
        files
            .open(file, &numbers, || Err(FsError::NotFound))
            .is_err()
    );
    assert!(files.open(file, &numbers, some_file).is_ok());
}

#[test]
fn threads_agree() {
    let (files, numbers) = (files(), Numbers::default());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2000 {
                    let file = id(["a", "b", "c"][round % 3], false);
                    let opened = files.open(file, &numbers, some_file).expect("opened");
                    let again = files.open(file, &numbers, some_file).expect("opened");
                    assert_eq!(again, opened);
                    files.release(opened.handle, &numbers);
                    files.release(opened.handle, &numbers);
                }
            });
        }
    });
    assert!(numbers.known.lock().is_empty());
}

#[test]
fn what_is_open_is_open_for_the_next_process() {
    let (state, numbers) = (state(), Numbers::default());
    let files = OpenFiles::new(&state).expect("it is new");
    let a = files
        .open(id("a", false), &numbers, some_file)
        .expect("opened");
    let x = files
        .open(id("a", true), &numbers, some_file)
        .expect("opened");
    let b = files
        .open(id("b", false), &numbers, || Ok(None))
        .expect("opened");
    files.release(x.handle, &numbers);
    drop(files);

    let files = OpenFiles::new(&state).expect("it is sound");
    assert!(files.unused.lock().is_empty());
    let never = || -> Result<Option<Arc<File>>, FsError> { unreachable!("it is known") };
    assert_eq!(
        files.open(id("a", false), &numbers, never).expect("opened"),
        a
    );
    assert_eq!(
        files.open(id("b", false), &numbers, never).expect("opened"),
        b
    );
    let x2 = files
        .open(id("a", true), &numbers, some_file)
        .expect("opened");
    assert_ne!(x2, x, "it is another opening");
    for handle in [a.handle, a.handle, b.handle, b.handle, x2.handle] {
        files.release(handle, &numbers);
    }
    assert!(numbers.known.lock().is_empty());
}

#[test]
fn a_death_amid_an_opening_or_closing() {
    let (state, numbers) = (state(), Numbers::default());
    let file = id("a", false);
    for step in 0..=record::STEPS {
        let files = OpenFiles::new(&state).expect("it is new");
        (files.records.get(number(&file))).fill_until(&file, Some(5), step);
        drop(files);
        let files = OpenFiles::new(&state).expect("it is sound");
        let is_open = step == record::STEPS;
        let opened = files.open(file, &numbers, || Ok(None)).expect("opened");
        assert_eq!(opened.backing.is_some(), is_open, "after {step} steps");
        files.release(opened.handle, &numbers);
        if !is_open {
            continue;
        }
        // The last closing, up to where the number is to be taken back.
        files.records.get(number(&file)).close();
        drop(files);
        let files = OpenFiles::new(&state).expect("it is sound");
        numbers.known.lock().insert(5);
        files.take_back_unused(&numbers);
        assert!(numbers.known.lock().is_empty());
        let opened = files.open(file, &numbers, || Ok(None)).expect("opened");
        assert_eq!(opened.backing, None);
        files.release(opened.handle, &numbers);
    }
}

#[test]
fn what_could_not_be_taken_back_is_taken_back_by_the_next() {
    let (state, numbers) = (state(), Numbers::default());
    let files = OpenFiles::new(&state).expect("it is new");
    let file = id("a", false);
    let opened = files.open(file, &numbers, some_file).expect("opened");
    numbers.is_mute.store(true, Relaxed);
    files.release(opened.handle, &numbers);
    // It is another opening, with a number of its own.
    let again = files.open(file, &numbers, some_file).expect("opened");
    assert_ne!(again, opened);
    drop(files);
    for _ in 0..2 {
        let files = OpenFiles::new(&state).expect("it is sound");
        files.take_back_unused(&numbers);
        assert_eq!(numbers.known.lock().len(), 2);
    }
    numbers.is_mute.store(false, Relaxed);
    let files = OpenFiles::new(&state).expect("it is sound");
    files.take_back_unused(&numbers);
    assert_eq!(numbers.known.lock().len(), 1);
    assert_eq!(
        files.open(file, &numbers, || Ok(None)).expect("opened"),
        again
    );
    for _ in 0..2 {
        files.release(again.handle, &numbers);
    }
    assert!(numbers.known.lock().is_empty());
}
