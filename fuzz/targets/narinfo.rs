//! A narinfo file is refused, or means the same when printed.
#![no_main]

use nix_compat::NarInfo;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target(data));

/// Parses `data`, prints it and parses it again.
pub fn target(data: &[u8]) {
    let Ok(info) = NarInfo::parse(data) else {
        return;
    };
    let printed = info.to_string();
    let again = NarInfo::parse(&printed).expect("what is printed can be parsed");
    assert_eq!(again, info);
    assert_eq!(again.to_string(), printed);
    assert!(info.fingerprint().starts_with("1;/nix/store/"));
    let _ = info.is_content_addressed();
}
