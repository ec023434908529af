use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{harness::*, tree::*};

#[test]
fn what_the_kernel_forgets_is_forgotten() {
    let lock = CacheLock::exclusive();
    let tree = dir((0..50).map(|d| {
        let files = (0..100).map(|f| (format!("file-{f}"), file(format!("{d} {f}"))));
        (format!("dir-{d}"), dir(files))
    }));
    let fixture = Fixture::of("pkg", &tree);
    let walk = || {
        for directory in fs::read_dir(fixture.at("pkg")).expect("readable") {
            for entry in fs::read_dir(directory.expect("an entry").path()).expect("readable") {
                stat(entry.expect("an entry").path());
            }
        }
    };
    walk();
    assert_eq!(fixture.stats().nodes, 1 + 50 + 50 * 100);
    let (ino, _) = stat(fixture.at("pkg/dir-7/file-8"));
    eventually("all nodes are forgotten", || {
        lock.drop_caches();
        fixture.stats().nodes == 0
    });
    assert_eq!(
        stat(fixture.at("pkg/dir-7/file-8")).0,
        ino,
        "the number is derived"
    );
    walk();
    assert_eq!(fixture.stats().nodes, 1 + 50 + 50 * 100);
}

#[test]
fn what_is_in_use_is_kept() {
    let lock = CacheLock::exclusive();
    let fixture = Fixture::of("pkg", &dir([("a", dir([("b", file("content"))]))]));
    let open = fs::File::open(fixture.at("pkg/a/b")).expect("readable");
    for _ in 0..5 {
        lock.drop_caches();
    }
    assert!(fixture.stats().nodes > 0);
    let content = std::io::read_to_string(open).expect("readable");
    assert_eq!(content, "content");
}

#[test]
fn nothing_is_mixed_up_while_the_kernel_forgets() {
    let lock = CacheLock::exclusive();
    let tree = dir((0..20).map(|d| {
        let files = (0..20).map(|f| (format!("file-{f}"), file(format!("{} {f}", d % 4))));
        // Equal at five places each.
        let inner = dir([
            ("inner", dir(files)),
            ("link", symlink(format!("to-{}", d % 4))),
        ]);
        (format!("dir-{d}"), inner)
    }));
    let fixture = Fixture::of("pkg", &tree);
    let done = AtomicBool::new(false);
    let walk = &|start: usize| {
        let mut step = start;
        while !done.load(Ordering::Relaxed) {
            step = (step * 7 + 5) % 400;
            let (d, f) = (step / 20, step % 20);
            let directory = fixture.at(&format!("pkg/dir-{d}"));
            let content = fs::read(directory.join(format!("inner/file-{f}"))).expect("readable");
            assert_eq!(content, format!("{} {f}", d % 4).into_bytes());
            let target = fs::read_link(directory.join("link")).expect("a symlink");
            assert_eq!(target.as_os_str(), format!("to-{}", d % 4).as_str());
            assert_eq!(fs::read_dir(directory).expect("readable").count(), 2);
        }
    };
    thread::scope(|scope| {
        for start in 0..6 {
            scope.spawn(move || walk(start * 61));
        }
        for _ in 0..40 {
            lock.drop_caches();
            thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
    });
    eventually("all nodes are forgotten", || {
        lock.drop_caches();
        fixture.stats().nodes == 0
    });
}
