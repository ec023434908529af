use super::*;

const PATH: &str = "/nix/store/wxysibnv4501ypsh8ylb864pw03b9c6l-plainfile";
const OTHER: &str = "/nix/store/cnyrxyqrjxwfds7jcyzj5wfcng3lrr46-plainlink";
const HASH: &str = "6c81bae44b6729fc9e5ebc28b6787e746f1ba46f57ec021db29a32788a01e407";

fn record(hash: &str) -> String {
    format!("{OTHER}\n{hash}\n168\n\n1\n{PATH}\n")
}

fn read(text: &str) -> Result<Vec<Registration>, Error> {
    RegistrationReader::new(text.as_bytes()).collect()
}

#[test]
fn reads_every_form_of_the_hash() {
    let expected = read(&record(HASH)).unwrap();
    let hash = NixHash::parse(HASH, Some(HashAlgo::Sha256)).unwrap();
    for form in [
        hash.to_string(),
        hash.to_sri(),
        hash.to_bare(HashFormat::Nix32),
        hash.to_prefixed(HashFormat::Base16),
    ] {
        assert_eq!(read(&record(&form)).unwrap(), expected, "{form}");
    }
    let mut written = Vec::new();
    expected[0].write(&mut written).unwrap();
    assert_eq!(written, record(HASH).into_bytes());
    assert_eq!(expected[0].references.len(), 1);
}

#[test]
fn reads_reference_graphs() {
    let text = format!("{PATH}\n\n0\n{OTHER}\n{PATH}.drv\n2\n{PATH}\n{OTHER}\n");
    let nodes: Vec<_> = ReferenceGraphReader::new(text.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(nodes.len(), 2);
    assert!(nodes[0].references.is_empty() && nodes[0].deriver.is_none());
    assert_eq!(nodes[1].references.len(), 2);
    assert_eq!(
        nodes[1].deriver.as_ref().map(StorePath::name),
        Some("plainfile.drv")
    );
}

#[test]
fn empty_text_has_no_records() {
    assert!(read("").unwrap().is_empty());
}

#[test]
fn refuses_truncation_anywhere_within_a_record() {
    let text = record(HASH);
    for len in 1..text.len() {
        let error = read(&text[..len]).unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::Truncated),
            "{len}: {error:?}"
        );
    }
}

#[test]
fn refuses_malformed_lines() {
    let text = record(HASH);
    let lines: Vec<&str> = text.lines().collect();
    for (line, bad) in [
        (1, ""),
        (1, "/nix/store/x"),
        (1, "wxysibnv4501ypsh8ylb864pw03b9c6l-plainfile"),
        (2, ""),
        (2, "sha1:3rvcjhgr1pnp3m2nvs4zs5bnqvdj2s3w"),
        (2, "md5:d41d8cd98f00b204e9800998ecf8427e"),
        (3, ""),
        (3, "-1"),
        (3, " 1"),
        (4, "unknown-deriver"),
        (5, ""),
        (5, "-1"),
        (6, "x"),
    ] {
        let mut lines = lines.clone();
        lines[line - 1] = bad;
        let error = read(&format!("{}\n", lines.join("\n"))).unwrap_err();
        assert_eq!(error.line, line as u64, "{bad:?}");
    }
    let error = read(&text.replace("\n1\n", "\n18446744073709551615\n")).unwrap_err();
    assert!(matches!(
        error,
        Error {
            line: 7,
            kind: ErrorKind::Truncated
        }
    ));
}

#[test]
fn reads_no_endless_line_and_stops_after_an_error() {
    let mut reader = RegistrationReader::new(io::BufReader::new(io::repeat(b'x')));
    assert!(matches!(
        reader.next(),
        Some(Err(Error {
            line: 1,
            kind: ErrorKind::LineTooLong
        }))
    ));
    assert!(reader.next().is_none());
}
