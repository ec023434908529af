//! Metrics in the text format of Prometheus, over as little HTTP as that needs.
//!
//! Names and meanings are documented in `docs/operations.md`.

mod exposition;

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{config::Listen, control::Report};

/// The longest request that is read.
const MAX_REQUEST: usize = 8 << 10;
/// How long a client may keep the others waiting.
const PATIENCE: Duration = Duration::from_secs(2);
/// The stack of the thread; it may be locked in memory.
const STACK: usize = 256 << 10;

/// A socket that nobody is heard on yet.
#[derive(Debug)]
pub(crate) struct Listener(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens, if that is wanted.
    pub(crate) fn bind(listen: &Listen) -> Result<Option<Self>> {
        let failed = || format!("cannot offer metrics on {listen}");
        let socket = match listen {
            Listen::Off => return Ok(None),
            Listen::Tcp(address) => Socket::Tcp(TcpListener::bind(address).with_context(failed)?),
            Listen::Unix(path) => Socket::Unix(bind_unix(path).with_context(failed)?),
        };
        Ok(Some(Self(socket)))
    }

    /// Answers, on a thread of its own, as long as the program runs.
    pub(crate) fn serve(self, report: Arc<dyn Report>) -> Result<()> {
        thread::Builder::new()
            .name("metrics".to_owned())
            .stack_size(STACK)
            .spawn(move || self.run(&*report))
            .context("cannot start a thread")?;
        Ok(())
    }

    fn run(&self, report: &dyn Report) {
        loop {
            if let Err(error) = self.answer_one(report) {
                tracing::debug!(%error, "a request for metrics was not answered");
                if error.kind() != ErrorKind::UnexpectedEof {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    fn answer_one(&self, report: &dyn Report) -> io::Result<()> {
        match &self.0 {
            Socket::Tcp(listener) => answer(&mut listener.accept()?.0, report),
            Socket::Unix(listener) => answer(&mut listener.accept()?.0, report),
        }
    }

    #[cfg(test)]
    fn address(&self) -> std::net::SocketAddr {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().unwrap(),
            Socket::Unix(_) => panic!("a unix socket"),
        }
    }
}

/// In place of a socket that was left there.
fn bind_unix(path: &PathBuf) -> io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt as _;
    match path.symlink_metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    UnixListener::bind(path)
}

trait Stream: Read + Write {
    fn limit(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn limit(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(read)?;
        self.set_write_timeout(write)
    }
}

impl Stream for UnixStream {
    fn limit(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(read)?;
        self.set_write_timeout(write)
    }
}

fn answer(stream: &mut impl Stream, report: &dyn Report) -> io::Result<()> {
    let request = head(stream)?;
    let mut words = request.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let response = match (method, path) {
        ("GET" | "HEAD", "/metrics") => match report.status() {
            Ok(status) => Response {
                code: "200 OK",
                kind: "text/plain; version=0.0.4; charset=utf-8",
                body: exposition::of(&status),
            },
            Err(error) => Response::text("503 Service Unavailable", &format!("{error:#}")),
        },
        ("GET" | "HEAD", _) => Response::text("404 Not Found", "metrics are at /metrics"),
        _ => Response::text("405 Method Not Allowed", "only GET and HEAD are known"),
    };
    let text = match method {
        "HEAD" => response.head(),
        _ => response.to_string(),
    };
    stream.write_all(text.as_bytes())
}

/// The first line of a request, once all its lines are read.
fn head(stream: &mut impl Stream) -> io::Result<String> {
    let end = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || bytes.len() > MAX_REQUEST {
            return Err(io::Error::other("the request is too slow or too long"));
        }
        stream.limit(Some(left), Some(PATIENCE))?;
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            len => bytes.extend_from_slice(&buffer[..len]),
        }
    }
    let line = bytes.split(|byte| *byte == b'\r').next();
    Ok(String::from_utf8_lossy(line.unwrap_or_default()).into_owned())
}

struct Response {
    code: &'static str,
    kind: &'static str,
    body: String,
}

impl Response {
    fn text(code: &'static str, text: &str) -> Self {
        Self {
            code,
            kind: "text/plain; charset=utf-8",
            body: format!("{text}\n"),
        }
    }

    fn head(&self) -> String {
        let Self { code, kind, body } = self;
        let len = body.len();
        format!(
            "HTTP/1.0 {code}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\
             Connection: close\r\n\r\n"
        )
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.head(), self.body)
    }
}

#[cfg(test)]
mod tests;
