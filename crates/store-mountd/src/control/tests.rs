use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    sync::Arc,
};

use anyhow::bail;
use parking_lot::Mutex;

use super::{protocol::Request, *};

/// Does nothing, and remembers what it was asked.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Report for Told {
    fn status(&self) -> Result<Status> {
        Ok(Status {
            mountpoint: "/m".into(),
            inodes: 7,
            ..Default::default()
        })
    }
}

impl Conduct for Told {
    fn in_flight(&self) -> Result<Vec<InFlight>> {
        Ok(vec![InFlight::default(); 2])
    }

    fn upgrade(&self, program: Option<(File, PathBuf)>) -> Result<String> {
        let Some((mut file, path)) = program else {
            bail!("no program");
        };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(format!("{} {text}", path.display()))
    }

    fn unmount(&self, detach: bool) -> Result<String> {
        self.0.lock().push(format!("unmount {detach}"));
        bail!("in use")
    }

    fn removed(&self, names: Vec<String>) -> Result<String> {
        self.0.lock().push(names.join(" "));
        Ok("dropped".to_owned())
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    told: Arc<Told>,
    _serving: Serving,
}

fn serve() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(Told::default());
    let listener = Listener::bind(&dir.path().join("sub/x.sock")).unwrap();
    Fixture {
        _serving: listener.serve(told.clone()).unwrap(),
        dir,
        told,
    }
}

impl Fixture {
    fn path(&self) -> PathBuf {
        self.dir.path().join("sub/x.sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.path()).unwrap()
    }
}

#[test]
fn a_client_is_answered_again_and_again() {
    let fixture = serve();
    let mut client = fixture.client();
    for _ in 0..3 {
        assert_eq!(client.status().unwrap().inodes, 7);
    }
    let removed = Request::Removed {
        names: vec!["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(client.order(&removed, None).unwrap(), "dropped");
    let refused = client.order(&Request::Unmount { detach: true }, None);
    assert_eq!(refused.unwrap_err().to_string(), "in use");
    assert_eq!(*fixture.told.0.lock(), ["a b", "unmount true"]);
}

#[test]
fn a_program_comes_as_an_open_file() {
    let fixture = serve();
    let path = fixture.dir.path().join("program");
    fs::write(&path, "contents").unwrap();
    let file = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let request = Request::Upgrade {
        program: Some("p".into()),
    };
    let mut client = fixture.client();
    let said = client.order(&request, Some(file.as_fd())).unwrap();
    assert_eq!(said, "p contents");
    let refused = client.order(&Request::Upgrade { program: None }, None);
    assert_eq!(refused.unwrap_err().to_string(), "no program");
}

#[test]
fn the_wire_is_lines_of_json() {
    let fixture = serve();
    let mut stream = UnixStream::connect(fixture.path()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |line: &str| -> serde_json::Value {
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    assert_eq!(ask(r#"{"request":"status"}"#)["status"]["mountpoint"], "/m");
    assert_eq!(ask(r#"{"request":"in-flight"}"#)["in-flight"][1]["pid"], 0);
    assert_eq!(ask(r#"{"request":"unmount"}"#)["refused"], "in use");
    let nonsense = ask("nonsense").to_string();
    assert!(nonsense.contains("not understood"), "{nonsense}");
    let unknown = ask(r#"{"request":"dance"}"#).to_string();
    assert!(unknown.contains("not understood"), "{unknown}");
}

#[test]
fn the_socket_is_its_owners_and_goes_with_who_serves() {
    let fixture = serve();
    let mode = fs::metadata(fixture.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let path = fixture.path();
    let Fixture { dir, _serving, .. } = fixture;
    drop(_serving);
    assert!(!path.exists());
    assert_eq!(fs::read_dir(dir.path().join("sub")).unwrap().count(), 0);
}

#[test]
fn a_socket_that_was_left_is_replaced_and_the_successors_stays() {
    let fixture = serve();
    let successor = Listener::bind(&fixture.path()).unwrap();
    let path = fixture.path();
    let Fixture { dir, _serving, .. } = fixture;
    drop(_serving);
    assert!(path.exists());
    let _serving = successor.serve(Arc::new(Told::default())).unwrap();
    assert_eq!(Client::connect(&path).unwrap().status().unwrap().inodes, 7);
    drop(dir);
}

#[test]
fn clients_that_say_nothing_keep_nobody_out_for_good() {
    let fixture = serve();
    let silent: Vec<_> = (0..20)
        .map(|_| UnixStream::connect(fixture.path()).unwrap())
        .collect();
    drop(silent);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while fixture.client().status().is_err() {
        assert!(std::time::Instant::now() < end, "nobody is heard any more");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn other_versions_are_understood() {
    let status: Status = serde_json::from_str(r#"{"inodes":3,"news":true}"#).unwrap();
    assert_eq!(status.inodes, 3);
    let whole = serde_json::to_value(Status {
        worker: Some(protocol::Worker::default()),
        ..Default::default()
    });
    assert_eq!(whole.unwrap()["worker"]["uptime-seconds"], 0.0);
}
