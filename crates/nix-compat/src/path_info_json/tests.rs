use super::*;

const PATH: &str = "/nix/store/wxysibnv4501ypsh8ylb864pw03b9c6l-plainfile";
const OTHER: &str = "/nix/store/cnyrxyqrjxwfds7jcyzj5wfcng3lrr46-plainlink";
const SRI: &str = "sha256-bIG65EtnKfyeXrwotnh+dG8bpG9X7AIdspoyeIoB5Ac=";
const NIX32: &str = "sha256:01z40657hclsn8fh5v2pdyj1nvvlgrwbca5wbsggqab79gjbm0bc";

#[test]
fn both_shapes() {
    let list = format!(
        r#"[{{"path":"{OTHER}","narHash":"{NIX32}","narSize":168,"references":["{PATH}"],
             "deriver":"{PATH}.drv","registrationTime":1,"signatures":["k:AAAA"],"closureSize":5}},
            {{"path":"{PATH}","valid":false}}]"#
    );
    let object = format!(
        r#"{{"{OTHER}":{{"ca":null,"narHash":"{SRI}","narSize":168,"references":["{PATH}"],
             "deriver":"{PATH}.drv","registrationTime":1,"signatures":["k:AAAA"],"ultimate":false}},
            "{PATH}":null}}"#
    );
    let entries = parse(&list).unwrap();
    assert_eq!(entries, parse(&object).unwrap());
    let [Entry::Valid(info), Entry::Invalid(invalid)] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(invalid.to_absolute_path(), PATH);
    assert_eq!(info.path.to_absolute_path(), OTHER);
    assert_eq!(info.nar_size, 168);
    assert_eq!(NixHash::Sha256(info.nar_sha256).to_sri(), SRI);
    assert!(info.references.contains(invalid));
    assert_eq!(info.signatures.len(), 1);
    assert_eq!(info.registration_time, Some(1));
    assert!(info.deriver.is_some() && info.ca.is_none() && !info.ultimate);

    assert_eq!(parse("[]").unwrap(), []);
    assert_eq!(parse("{}").unwrap(), []);
}

#[test]
fn refuses_malformed() {
    let object = |fields: &str| parse(format!(r#"{{"{PATH}":{{{fields}}}}}"#));
    let good = format!(r#""narHash":"{SRI}","narSize":1,"references":[]"#);
    object(&good).unwrap();
    assert!(matches!(
        object(r#""narSize":1"#),
        Err(Error::Missing {
            field: "narHash",
            ..
        })
    ));
    assert!(matches!(
        object(&good.replace("narSize", "x")),
        Err(Error::Missing {
            field: "narSize",
            ..
        })
    ));
    assert!(matches!(
        object(&good.replace("references", "x")),
        Err(Error::Missing { .. })
    ));
    assert!(matches!(
        object(&good.replace("sha256-", "sha512-")),
        Err(Error::Hash { .. })
    ));
    assert!(matches!(
        object(&good.replace("[]", r#"["x"]"#)),
        Err(Error::Path { .. })
    ));
    assert!(matches!(
        object(&format!(r#"{good},"deriver":"x""#)),
        Err(Error::Path { .. })
    ));
    assert!(matches!(
        object(&format!(r#"{good},"ca":"x""#)),
        Err(Error::ContentAddress { .. })
    ));
    assert!(matches!(
        object(&format!(r#"{good},"signatures":["x"]"#)),
        Err(Error::Signature { .. })
    ));
    assert!(matches!(
        object(&good.replace(":1", ":-1")),
        Err(Error::Json(_))
    ));
    assert!(matches!(
        object(&good.replace(":1", ":\"1\"")),
        Err(Error::Json(_))
    ));
    for text in ["", "1", "null", "[1]", "[{}]", "{\"x\":1}", "[] x"] {
        assert!(matches!(parse(text), Err(Error::Json(_))), "{text}");
    }
    assert!(matches!(
        parse(r#"{"x":null}"#),
        Err(Error::Path { field: "path", .. })
    ));
}
