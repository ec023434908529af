use super::{BLOCK_SIZE, Disk, Image, Survival};
use crate::rng::Rng;
use std::collections::BTreeMap;

fn disk() -> Disk {
    Disk::new(Image {
        blocks: BTreeMap::new(),
        size: 16 * BLOCK_SIZE as u64,
    })
}

fn survivor(mut disk: Disk, survival: Survival) -> Disk {
    Disk::new(disk.surviving(survival, &mut Rng::new(1)))
}

#[test]
fn reads_what_was_written_before_any_flush() {
    let mut disk = disk();
    disk.write(4090, b"across a boundary").unwrap();
    assert_eq!(disk.read(4090, 17).unwrap(), b"across a boundary");
    assert_eq!(disk.read(0, 3).unwrap(), [0, 0, 0]);
    assert_eq!(disk.read(16 * 4096 - 2, 10).unwrap().len(), 2);
}

#[test]
fn only_flushed_writes_are_sure_to_survive() {
    let mut disk = disk();
    disk.write(0, b"stable").unwrap();
    disk.flush().unwrap();
    disk.write(0, b"cached").unwrap();
    let after = survivor(disk, Survival::Nothing);
    assert_eq!(after.read(0, 6).unwrap(), b"stable");
}

#[test]
fn a_cached_write_may_survive_too() {
    let mut disk = disk();
    disk.write(0, b"older").unwrap();
    disk.write(0, b"newer").unwrap();
    let after = survivor(disk, Survival::Everything);
    assert_eq!(after.read(0, 5).unwrap(), b"newer");
}

#[test]
fn nothing_works_after_the_cut() {
    let mut disk = disk();
    disk.cut();
    assert!(disk.write(0, b"x").is_err());
    assert!(disk.read(0, 1).is_err());
    assert!(disk.flush().is_err());
}

#[test]
fn errors_begin_where_they_were_asked_for() {
    let mut disk = disk();
    disk.fail_writes_after(Some(1));
    disk.write(0, b"good").unwrap();
    assert!(disk.write(4096, b"bad").is_err());
    assert!(disk.flush().is_err());
    assert_eq!(disk.read(0, 4).unwrap(), b"good");
    assert_eq!(disk.fail_reads_of(b"good"), 1);
    assert!(disk.read(0, 4).is_err());
    assert_eq!(disk.read(4096, 1).unwrap(), [0]);
}
