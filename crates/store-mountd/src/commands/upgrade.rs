use std::{env, os::fd::AsFd as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use super::status::socket_of;
use crate::{
    control::{Client, protocol::Request},
    supervisor::Binary,
};

/// Go on serving a mount with another version of the program.
///
/// The new program opens the store while the old one serves; only then does it
/// take over. Nobody who uses the mount notices. If the new program does not
/// start, does not know what the old one kept, or does not serve, the old one
/// goes on, and the reason is told here.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Upgrade {
    /// The mount.
    #[arg(value_name = "MOUNTPOINT", required_unless_present = "socket")]
    mountpoint: Option<PathBuf>,

    /// The program to go on with. Without it, the one that this command is of.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,

    /// The mount's control socket, if that is not in its usual place.
    #[arg(long, value_name = "PATH", conflicts_with = "mountpoint")]
    socket: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd upgrade /nix/store
  store-mountd upgrade /nix/store --binary ./store-mountd";

impl Upgrade {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let binary = match self.binary {
            Some(binary) => binary,
            None => env::current_exe().context("cannot tell where this program is")?,
        };
        // Read here: it may be on the mount, and the supervisor must not wait for that.
        let program = Binary::copy_of(&binary)?;
        let binary = std::path::absolute(binary)?;
        let mut client = connect(self.mountpoint, self.socket)?;
        let request = Request::Upgrade {
            program: Some(binary),
        };
        println!("{}", client.order(&request, Some(program.as_fd()))?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Connects to who serves a mount.
pub(super) fn connect(mountpoint: Option<PathBuf>, socket: Option<PathBuf>) -> Result<Client> {
    let socket = match (socket, mountpoint) {
        (Some(socket), _) => socket,
        (None, Some(mountpoint)) => socket_of(&mountpoint)?,
        (None, None) => anyhow::bail!("no mount is named"),
    };
    Client::connect(&socket)
}
