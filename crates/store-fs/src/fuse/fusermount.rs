//! Mounting as an ordinary user, by the set-user-ID program `fusermount3`.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

use super::{MountError, MountOptions};

const PROGRAM: &str = "fusermount3";

/// Mounts, and receives the connected `/dev/fuse`.
pub(super) fn mount(path: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let refused = |message: String| MountError::Fusermount {
        path: path.to_owned(),
        message,
    };
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| refused(errno.to_string()))?;
    let mut list = format!(
        "ro,nosuid,nodev,default_permissions,fsname={0},subtype={0}",
        options.name
    );
    if options.allow_other {
        list.push_str(",allow_other");
    }
    let child = Command::new(PROGRAM)
        .args(["-o", &list, "--"])
        .arg(path)
        // Its standard input is the socket: a number that is inherited without
        // being left open to other children started meanwhile.
        .env("_FUSE_COMMFD", "0")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| MountError::NoFusermount { source })?;
    let received = receive(&ours);
    let output = child
        .wait_with_output()
        .map_err(|e| refused(e.to_string()))?;
    match received {
        Ok(Some(fd)) => Ok(fd),
        Ok(None) => Err(refused(message(&output))),
        Err(error) => Err(refused(format!("{}: {error}", message(&output)))),
    }
}

/// The one descriptor that is sent; `None` if the other side closes instead.
fn receive(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// Unmounts; answers what the program says if it refuses.
pub(super) fn unmount(path: &Path, lazy: bool) -> io::Result<Result<(), String>> {
    let mut arguments = vec![OsString::from("-u")];
    if lazy {
        arguments.push("-z".into());
    }
    arguments.extend(["--".as_ref(), path.as_os_str()].map(OsStr::to_owned));
    let output = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    Ok(if output.status.success() {
        Ok(())
    } else {
        Err(message(&output))
    })
}

fn message(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    match said.trim() {
        "" => output.status.to_string(),
        said => said.to_owned(),
    }
}
