use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::upgrade::connect;
use crate::control::protocol::Request;

/// Unmount a mount that is served.
///
/// If it is in use, it stays, and who uses it is told. The program that serves
/// it ends when it is unmounted.
#[derive(Debug, Args)]
pub(crate) struct Unmount {
    /// The mount.
    #[arg(value_name = "MOUNTPOINT", required_unless_present = "socket")]
    mountpoint: Option<PathBuf>,

    /// If it is in use, take it out of the directory tree all the same. It is
    /// served until its last user is done.
    #[arg(long)]
    detach: bool,

    /// The mount's control socket, if that is not in its usual place.
    #[arg(long, value_name = "PATH", conflicts_with = "mountpoint")]
    socket: Option<PathBuf>,
}

impl Unmount {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut client = connect(self.mountpoint, self.socket)?;
        let request = Request::Unmount {
            detach: self.detach,
        };
        println!("{}", client.order(&request, None)?);
        Ok(ExitCode::SUCCESS)
    }
}
