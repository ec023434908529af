//! The side of commands.

use std::{
    io::{BufRead as _, BufReader, IoSlice, Write as _},
    mem::MaybeUninit,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{
    Status,
    protocol::{Request, Response},
};

/// Longer than who serves takes for anything.
const PATIENCE: Duration = Duration::from_secs(180);

/// A connection to who serves a mount.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the socket there.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            std::io::Result::Ok(stream)
        };
        let stream = connect().with_context(|| format!("cannot connect to {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// How the mount is.
    pub(crate) fn status(&mut self) -> Result<Status> {
        match self.ask(&Request::Status, None)? {
            Response::Status(status) => Ok(*status),
            response => self.unexpected(&response),
        }
    }

    /// Asks for something to be done; answers what there is to say then.
    pub(crate) fn order(
        &mut self,
        request: &Request,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<String> {
        match self.ask(request, file)? {
            Response::Done(message) => Ok(message),
            Response::Refused(reason) => bail!("{reason}"),
            response => self.unexpected(&response),
        }
    }

    fn ask(&mut self, request: &Request, file: Option<BorrowedFd<'_>>) -> Result<Response> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.exchange(&line, file)
            .with_context(|| format!("no answer through {}", self.path.display()))
    }

    fn exchange(&mut self, line: &[u8], file: Option<BorrowedFd<'_>>) -> Result<Response> {
        let stream = self.stream.get_mut();
        let fds: Vec<_> = file.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            bail!("there is no room for a descriptor");
        }
        let flags = SendFlags::NOSIGNAL;
        let sent = sendmsg(&*stream, &[IoSlice::new(line)], &mut control, flags)?;
        stream.write_all(&line[sent..])?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        if answer.is_empty() {
            bail!("the connection was closed");
        }
        serde_json::from_str(&answer).context("the answer is not understood")
    }

    fn unexpected<T>(&self, response: &Response) -> Result<T> {
        match response {
            Response::Refused(reason) => bail!("{reason}"),
            _ => bail!("{} gave an answer to something else", self.path.display()),
        }
    }
}
