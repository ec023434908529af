use super::*;

/// BLAKE3 of nothing, from its specification.
const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

#[test]
fn text_and_bytes_round_trip() {
    let digest = Digest::of(b"");
    assert_eq!(digest.to_string(), EMPTY);
    assert_eq!(EMPTY.parse(), Ok(digest));
    assert_eq!(EMPTY.to_uppercase().parse(), Ok(digest));
    assert_eq!(Digest::from_bytes(*digest.as_bytes()), digest);
    assert_eq!(Digest::try_from(&digest.as_bytes()[..]), Ok(digest));
    assert_eq!(format!("{digest:?}"), format!("Digest({EMPTY})"));
}

#[test]
fn what_is_no_digest_is_refused() {
    for len in [0, 31, 33, 64] {
        let bytes = vec![0; len];
        assert_eq!(
            Digest::try_from(&bytes[..]),
            Err(DigestParseError::Length(len))
        );
    }
    for text in [
        "",
        &EMPTY[1..],
        &format!("{EMPTY}0"),
        &EMPTY.replace('a', "g"),
    ] {
        let refused = text.parse::<Digest>();
        assert_eq!(refused, Err(DigestParseError::Hex(text.to_owned())));
    }
}
