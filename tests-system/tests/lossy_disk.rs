//! The lossy disk itself, with plain files: a test tool that does not lose data when it should
//! would make every test above it worthless.

use anyhow::Result;
use std::fs::{self, File};
use std::io::Write as _;
use system_tests::loop_mount::{FsType, LoopMount};
use system_tests::lossy_disk::{Image, LossyDisk, Survival};
use system_tests::rng::Rng;
use system_tests::scratch;

const SIZE: u64 = 64 << 20;

fn empty_ext4() -> Result<Image> {
    let dir = scratch::dir("mkfs")?;
    let path = dir.path().join("disk");
    FsType::Ext4.make(&path, SIZE)?;
    Image::read(&path)
}

#[test]
fn synced_files_survive_a_power_cut_and_others_need_not() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let mut rng = Rng::from_env();
    let image = empty_ext4()?;
    let mut lost = 0;
    for round in 0..6 {
        let disk = LossyDisk::power_on(image.clone())?;
        let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
        let synced = rng.bytes(300_000);
        let mut file = File::create(mounted.path().join("synced"))?;
        file.write_all(&synced)?;
        file.sync_all()?;
        File::open(mounted.path())?.sync_all()?;
        let unsynced = rng.bytes(300_000);
        fs::write(mounted.path().join("unsynced"), &unsynced)?;
        let (writes, flushes) = disk.traffic();
        assert!(
            writes > 70 && flushes > 0,
            "{writes} writes, {flushes} flushes"
        );
        disk.cut();
        drop(file);
        drop(mounted);
        let survival = Survival::pick(&mut rng);
        let disk = LossyDisk::power_on(disk.into_image(survival, &mut rng))?;
        let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
        assert!(
            fs::read(mounted.path().join("synced"))? == synced,
            "round {round}: {survival:?}"
        );
        lost += usize::from(fs::read(mounted.path().join("unsynced")).ok() != Some(unsynced));
        mounted.unmount()?;
    }
    assert!(lost > 0, "the disk never lost a write");
    Ok(())
}

#[test]
fn writes_are_answered_with_eio_from_the_nth_on() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let disk = LossyDisk::power_on(empty_ext4()?)?;
    let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
    let path = mounted.path().join("file");
    fs::write(&path, vec![1; 1 << 20])?;
    disk.fail_writes_after(20);
    let error = File::open(&path)?.sync_all().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    Ok(())
}

#[test]
fn a_bad_sector_cannot_be_read() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let dir = scratch::dir("bad-sector")?;
    let path = dir.path().join("disk");
    FsType::Ext4.make(&path, SIZE)?;
    let disk = LossyDisk::power_on(Image::read(&path)?)?;
    let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
    fs::write(mounted.path().join("file"), b"a sector that will go bad")?;
    mounted.unmount()?;
    assert!(disk.fail_reads(b"will go bad") > 0);
    let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
    let error = fs::read(mounted.path().join("file")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    Ok(())
}
