use proptest::prelude::*;

use super::*;

const HELLO_SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn every_form_of_one_hash() {
    let hash = NixHash::sha256("hello");
    assert_eq!(hash.to_bare(HashFormat::Base16), HELLO_SHA256);
    for text in [
        hash.to_string(),
        hash.to_sri(),
        hash.to_prefixed(HashFormat::Base16),
        hash.to_prefixed(HashFormat::Nix32),
        hash.to_prefixed(HashFormat::Base64),
        hash.to_prefixed(HashFormat::Base16)
            .replace("2cf24dba", "2CF24DBA"),
    ] {
        assert_eq!(text.parse(), Ok(hash), "{text}");
        assert_eq!(
            NixHash::parse(&text, Some(HashAlgo::Sha256)),
            Ok(hash),
            "{text}"
        );
        assert!(matches!(
            NixHash::parse(&text, Some(HashAlgo::Sha512)),
            Err(Error::WrongAlgo { .. })
        ));
    }
    for format in [HashFormat::Base16, HashFormat::Nix32, HashFormat::Base64] {
        assert_eq!(
            NixHash::parse(&hash.to_bare(format), Some(HashAlgo::Sha256)),
            Ok(hash)
        );
        assert!(matches!(
            hash.to_bare(format).parse::<NixHash>(),
            Err(Error::NoAlgo { .. })
        ));
    }
}

#[test]
fn refuses_malformed() {
    use HashAlgo::Sha256;

    assert!(matches!(
        "sha3:00".parse::<NixHash>(),
        Err(Error::UnknownAlgo { .. })
    ));
    assert!(matches!(
        "SHA256:00".parse::<NixHash>(),
        Err(Error::UnknownAlgo { .. })
    ));
    assert!(matches!(
        "sha256:".parse::<NixHash>(),
        Err(Error::Length { .. })
    ));
    assert!(matches!(
        NixHash::parse("", Some(Sha256)),
        Err(Error::Length { .. })
    ));
    assert!(matches!(
        NixHash::parse(&"g".repeat(64), Some(Sha256)),
        Err(Error::Base16 { .. })
    ));
    assert!(matches!(
        NixHash::parse(&"z".repeat(52), Some(Sha256)),
        Err(Error::Nix32 { .. })
    ));
    let sri = NixHash::sha256("hello").to_sri();
    assert!(matches!(
        sri.trim_end_matches('=').parse::<NixHash>(),
        Err(Error::Length { .. })
    ));
    // "…CQ=" with other trailing bits decodes to the same digest.
    assert!(matches!(
        sri.replace("CQ=", "CR=").parse::<NixHash>(),
        Err(Error::Base64 { .. })
    ));
    // SRI is always base64.
    assert!(matches!(
        format!("sha256-{HELLO_SHA256}").parse::<NixHash>(),
        Err(Error::Length { .. })
    ));
}

#[test]
fn stream_hashes_both_ways() {
    let mut writer = Sha256Stream::new(Vec::new());
    writer.write_all(b"hel").unwrap();
    writer.write_all(b"lo").unwrap();
    let (written, digest, len) = writer.finish();
    assert_eq!((written.as_slice(), len), (&b"hello"[..], 5));
    assert_eq!(NixHash::Sha256(digest), NixHash::sha256("hello"));

    let mut reader = Sha256Stream::new(&b"hello"[..]);
    io::copy(&mut reader, &mut io::sink()).unwrap();
    let (_, digest, len) = reader.finish();
    assert_eq!(len, 5);
    assert_eq!(NixHash::Sha256(digest), NixHash::sha256("hello"));
}

fn any_hash() -> impl Strategy<Value = NixHash> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(NixHash::Md5),
        any::<[u8; 20]>().prop_map(NixHash::Sha1),
        any::<[u8; 32]>().prop_map(NixHash::Sha256),
        (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(a, b)| {
            let mut digest = [0; 64];
            digest[..32].copy_from_slice(&a);
            digest[32..].copy_from_slice(&b);
            NixHash::Sha512(digest)
        }),
    ]
}

proptest! {
    #[test]
    fn round_trip(hash in any_hash()) {
        prop_assert_eq!(hash.to_sri().parse(), Ok(hash));
        for format in [HashFormat::Base16, HashFormat::Nix32, HashFormat::Base64] {
            prop_assert_eq!(hash.to_prefixed(format).parse(), Ok(hash));
            prop_assert_eq!(NixHash::parse_bare(&hash.to_bare(format), hash.algo()), Ok(hash));
        }
        prop_assert_eq!(NixHash::from_digest(hash.algo(), hash.digest()), Some(hash));
    }

    #[test]
    fn never_panics(text in "(md5|sha1|sha256|sha512)?[:-]?\\PC{0,70}") {
        let _ = text.parse::<NixHash>();
    }
}
