//! A NAR is refused, or written again byte for byte.
#![no_main]

use nix_compat::nar::{self, NarReader, NarWriter};

libfuzzer_sys::fuzz_target!(|data: &[u8]| target(data));

/// Reads `data` as a NAR through a small buffer, and writes what was read.
pub fn target(data: &[u8]) {
    let mut reader = NarReader::new(std::io::BufReader::with_capacity(7, data));
    let mut writer = NarWriter::new(Vec::new());
    match nar::copy(&mut reader, &mut writer) {
        Ok(()) => {
            let size = reader.offset();
            let written = writer
                .finish()
                .expect("a NAR that was read to its end is complete");
            assert_eq!(data.get(..written.len()), Some(written.as_slice()));
            assert_eq!(size, written.len() as u64);
            assert_eq!(reader.expect_end().is_ok(), written.len() == data.len());
        }
        Err(nar::CopyError::Read(_)) => assert!(reader.next_event().is_err()),
        Err(nar::CopyError::Write(error)) => panic!("the writer refuses what was read: {error:?}"),
    }

    let mut reader = NarReader::new(data);
    let mut skipping = Ok(());
    loop {
        match reader.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => {
                skipping = Err(());
                break;
            }
        }
    }
    let copied = nar::copy(
        &mut NarReader::new(data),
        &mut NarWriter::new(std::io::sink()),
    );
    assert_eq!(
        skipping.is_ok(),
        copied.is_ok(),
        "skipped contents are checked as read ones are"
    );
}
