//! A castore directory is refused, or encoded again byte for byte.
#![no_main]

use bytes::Bytes;
use castore::Directory;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target(data));

/// Decodes `data` and encodes it again; also looks every entry up.
pub fn target(data: &[u8]) {
    let Ok(directory) = Directory::decode(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert_eq!(directory.encode(), data);
    for (ordinal, entry) in directory.entries().iter().enumerate() {
        let found = directory
            .lookup(entry.name.as_bytes())
            .map(|(ordinal, _)| ordinal);
        assert_eq!(found, Some(ordinal));
    }
    let _ = directory.size();
}
