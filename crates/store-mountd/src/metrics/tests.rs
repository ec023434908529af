use std::collections::BTreeSet;

use super::*;
use crate::control::{
    InFlight, Status,
    protocol::{Cache, Process, Worker},
};

struct Fixed(Status);

impl Report for Fixed {
    fn status(&self) -> Result<Status> {
        Ok(self.0.clone())
    }
}

fn status() -> Status {
    Status {
        mountpoint: "/a\"b".into(),
        worker: Some(Worker {
            serving: true,
            process: Process {
                version: "2".to_owned(),
                ..Default::default()
            },
            ..Default::default()
        }),
        inodes: 12,
        bytes_served: 1 << 40,
        requests: [("lookup".to_owned(), 3), ("read".to_owned(), 4)].into(),
        caches: [("blobs".to_owned(), Cache { hits: 5, misses: 6 })].into(),
        in_flight: vec![InFlight {
            seconds: 1.5,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn ask(listener: &Listener, request: &str) -> String {
    let mut stream = TcpStream::connect(listener.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    listener.answer_one(&Fixed(status())).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn listener() -> Listener {
    let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
    Listener::bind(&listen).unwrap().unwrap()
}

#[test]
fn metrics_are_offered() {
    let answer = ask(&listener(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{head}"
    );
    for line in [
        "tvix_store_mount_up{mountpoint=\"/a\\\"b\"} 1",
        "tvix_store_mount_inodes{mountpoint=\"/a\\\"b\"} 12",
        "tvix_store_mount_served_bytes_total{mountpoint=\"/a\\\"b\"} 1099511627776",
        "tvix_store_mount_requests_total{mountpoint=\"/a\\\"b\",operation=\"read\"} 4",
        "tvix_store_mount_cache_misses_total{mountpoint=\"/a\\\"b\",cache=\"blobs\"} 6",
        "tvix_store_mount_oldest_request_seconds{mountpoint=\"/a\\\"b\"} 1.5",
    ] {
        assert!(body.lines().any(|it| it == line), "no {line} in\n{body}");
    }
}

/// The format: each family's help and type once, before its samples.
#[test]
fn families_are_whole() {
    let body = exposition::of(&status());
    let mut seen = BTreeSet::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            current = help.split(' ').next().unwrap().to_owned();
            assert!(seen.insert(current.clone()), "{current} twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, current);
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        } else {
            let (name, _) = line.split_once('{').unwrap();
            assert_eq!(name, current);
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(seen.len() > 10, "{seen:?}");
}

#[test]
fn every_metric_is_documented() {
    let document = include_str!("../../../../docs/operations.md");
    for line in exposition::of(&status()).lines() {
        let Some(name) = line
            .strip_prefix("# HELP ")
            .and_then(|it| it.split(' ').next())
        else {
            continue;
        };
        let name = name.strip_prefix(exposition::PREFIX).unwrap();
        assert!(
            document.contains(&format!("| `{name}` |")),
            "{name} is not documented"
        );
    }
}

#[test]
fn other_requests_are_refused() {
    let listener = listener();
    let missing = ask(&listener, "GET / HTTP/1.0\r\n\r\n");
    assert!(missing.starts_with("HTTP/1.0 404 "), "{missing}");
    let posted = ask(&listener, "POST /metrics HTTP/1.0\r\n\r\n");
    assert!(posted.starts_with("HTTP/1.0 405 "), "{posted}");
    let head = ask(&listener, "HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.0 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn a_client_that_leaves_or_sends_too_much_is_let_go() {
    let listener = listener();
    drop(TcpStream::connect(listener.address()).unwrap());
    let left = listener.answer_one(&Fixed(status()));
    assert_eq!(left.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let mut stream = TcpStream::connect(listener.address()).unwrap();
    stream.write_all(&[b'x'; 2 * MAX_REQUEST]).unwrap();
    listener.answer_one(&Fixed(status())).unwrap_err();
}

#[test]
fn a_unix_socket_replaces_one_that_was_left_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    let listen = Listen::Unix(path.clone());
    drop(Listener::bind(&listen).unwrap());
    let listener = Listener::bind(&listen).unwrap().unwrap();
    listener.serve(Arc::new(Fixed(status()))).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("tvix_store_mount_up"), "{answer}");

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    Listener::bind(&Listen::Unix(file)).unwrap_err();
    assert!(Listener::bind(&Listen::Off).unwrap().is_none());
}
