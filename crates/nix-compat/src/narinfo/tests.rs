use proptest::prelude::*;

use super::*;

const PATH: &str = "/nix/store/nw7ms1f2zqxn8v0g05arf2vq0xdfymzq-mid-2.3";
const HASH: &str = "sha256:1djdc8fn9qw4sf3gwakfaj3c0fyw5dp63wcnrf3m2djijj29yla4";

fn minimal() -> String {
    format!("StorePath: {PATH}\nURL: nar/x.nar\nNarHash: {HASH}\nNarSize: 1048\n")
}

fn with(line: &str) -> Result<NarInfo, Error> {
    NarInfo::parse(format!("{}{line}\n", minimal()))
}

#[test]
fn defaults() {
    let info = NarInfo::parse(minimal()).unwrap();
    assert_eq!(info.compression, Compression::Bzip2);
    assert_eq!(info.file_hash, None);
    assert_eq!(info.file_size, None);
    assert!(info.references.is_empty());
    assert_eq!(info.deriver, None);
    assert_eq!(info.ca, None);
    assert!(info.signatures.is_empty());
    assert_eq!(info.verified_by(&[]), None);
    assert!(!info.is_content_addressed());
    assert_eq!(info.to_string().parse(), Ok(info));
}

#[test]
fn lenient_where_nix_is() {
    let info = NarInfo::parse(minimal()).unwrap();
    for line in [
        "System: x86_64-linux",
        "Future: a: b",
        ": ",
        "Compression: ",
        "Compression: bzip2",
        "References: ",
        "References:   ",
        "Deriver: unknown-deriver",
        "CA: ",
    ] {
        assert_eq!(with(line), Ok(info.clone()), "{line}");
    }
    let other = "6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0";
    let own = PATH.rsplit('/').next().unwrap();
    let unsorted = with(&format!("References: {own}  {other} {own}")).unwrap();
    let sorted: Vec<_> = unsorted
        .references
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(sorted, [other, own]);
    assert!(
        unsorted
            .fingerprint()
            .ends_with(&format!(";1048;/nix/store/{other},{PATH}"))
    );

    let hex = NarInfo::parse(minimal().replace(
        HASH,
        "sha256:44519f849451365187cb96f1616e2bdc3bc086546e2afe86d384e3641d624db6",
    ));
    assert_eq!(hex, Ok(info));
    assert_eq!(with("Sig: k:AAAA").unwrap().signatures[0].bytes(), [0; 3]);
}

#[test]
fn refuses_missing_keys() {
    for key in ["StorePath", "URL", "NarHash", "NarSize"] {
        let text: String = minimal()
            .lines()
            .filter(|l| !l.starts_with(key))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(NarInfo::parse(text), Err(Error::Missing { key }));
    }
    assert_eq!(NarInfo::parse(""), Err(Error::Missing { key: "StorePath" }));
}

#[test]
fn refuses_duplicates() {
    for line in minimal().lines() {
        assert!(
            matches!(with(line), Err(Error::Duplicate { line: 5, .. })),
            "{line}"
        );
    }
    for line in [
        "Compression: xz",
        "FileSize: 1",
        &format!("FileHash: {HASH}"),
        "References: ",
        "Deriver: unknown-deriver",
        "CA: ",
    ] {
        let twice = with(&format!("{line}\n{line}"));
        assert!(
            matches!(twice, Err(Error::Duplicate { line: 6, .. })),
            "{line}"
        );
    }
}

#[test]
fn refuses_invalid_values() {
    for (good, bad) in [
        (PATH, "/nix/store/x"),
        (PATH, PATH.trim_start_matches("/nix/store/")),
        ("nar/x.nar", ""),
        (HASH, "1djdc8fn9qw4sf3gwakfaj3c0fyw5dp63wcnrf3m2djijj29yla4"),
        (HASH, "sha1:3rvcjhgr1pnp3m2nvs4zs5bnqvdj2s3w"),
        (HASH, ""),
        ("1048", "0"),
        ("1048", "+1048"),
        ("1048", "-1"),
        ("1048", "18446744073709551616"),
        ("1048", "1048 "),
    ] {
        let text = minimal().replace(good, bad);
        assert!(
            matches!(NarInfo::parse(&text), Err(Error::Value { .. })),
            "{text}"
        );
    }
    for line in [
        "Compression: rar",
        "FileSize: ",
        "FileHash: sha256:x",
        "References: x",
        &format!("References: {PATH}"),
        "Deriver: ",
        "Sig: ",
        "Sig: k",
        "Sig: k:",
        "Sig: k:?",
        "CA: fixed",
    ] {
        assert!(
            matches!(with(line), Err(Error::Value { line: 5, .. })),
            "{line}"
        );
    }
}

#[test]
fn refuses_malformed_lines() {
    assert_eq!(
        NarInfo::parse(minimal().trim_end()),
        Err(Error::Unterminated { line: 4 })
    );
    assert_eq!(with(""), Err(Error::NoColon { line: 5 }));
    assert_eq!(with("Future"), Err(Error::NoColon { line: 5 }));
    assert_eq!(with("References:"), Err(Error::NoColon { line: 5 }));
    assert!(matches!(
        NarInfo::parse(b"URL: \xff\n"),
        Err(Error::Utf8(_))
    ));
    assert!(NarInfo::parse(minimal().replace('\n', "\r\n")).is_err());
}

#[test]
fn every_compression_round_trips() {
    for compression in Compression::ALL {
        assert_eq!(
            with(&format!("Compression: {compression}"))
                .unwrap()
                .compression,
            compression
        );
    }
}

proptest! {
    #[test]
    fn accepted_mutations_print_to_their_equal(index: prop::sample::Index, byte in 0..128u8) {
        let mut text = format!("{}Compression: xz\nReferences: \nCA: fixed:r:{HASH}\n", minimal()).into_bytes();
        let index = index.index(text.len());
        text[index] = byte;
        if let Ok(info) = NarInfo::parse(&text) {
            prop_assert_eq!(NarInfo::parse(info.to_string()), Ok(info));
        }
    }

    #[test]
    fn never_panics(text in "(StorePath|NarHash|Sig|CA|References|NarSize|\\PC)*:? ?\\PC*\n") {
        let _ = NarInfo::parse(text);
    }
}
