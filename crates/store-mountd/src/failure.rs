//! How errors are told to the user: what failed, why, and what to do.

use std::io;

use store::import::ImportError;
use store_fs::fuse::{MountError, StartError};
use tracing::Level;

use crate::logging;

/// Whether nobody reads what the program prints any more, as in `… | head`.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints an error and what may help.
pub(crate) fn print(error: &anyhow::Error) {
    let mut text = format!("store-mountd: {}", message(error));
    if let Some(hint) = hint(error) {
        text = format!("{text}\n{hint}");
    }
    logging::say(Level::ERROR, &text);
}

/// The error with its causes. Some errors have their cause in their own text
/// already; it is not repeated.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let of_store = store_error(cause).and_then(hint_of_store);
        let of_mount = mount_error(cause).and_then(hint_of_mount);
        let of_system = cause.downcast_ref::<io::Error>().and_then(hint_of_system);
        of_store.or(of_mount).or(of_system)
    })
}

/// An error of castore's, out of those that only pass it on: these stand for it
/// in the chain of causes.
fn store_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a castore::Error> {
    let passed_on = match cause.downcast_ref::<ImportError>() {
        Some(ImportError::Store(error)) => Some(error),
        _ => cause.downcast_ref::<store::Error>(),
    };
    match passed_on {
        Some(store::Error::Castore(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

fn mount_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a MountError> {
    match cause.downcast_ref::<StartError>() {
        Some(StartError::Mount(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

const DAMAGED: &str = "`store-mountd verify` names everything that is damaged; to mend a store \
                       path, import it again with --repair.";

fn hint_of_store(error: &castore::Error) -> Option<&'static str> {
    match error {
        castore::Error::NotAStore { .. } => Some(
            "Name the store with --store DIR, or make one there: `store-mountd import PATH` does.",
        ),
        castore::Error::NotEmpty { .. } => {
            Some("Choose an empty directory with --store DIR, or remove what is in this one.")
        }
        castore::Error::Corrupt { .. }
        | castore::Error::Damaged { .. }
        | castore::Error::Missing { .. }
        | castore::Error::Directory { .. } => Some(DAMAGED),
        castore::Error::ReadOnly { .. } => Some(
            "Choose a store that you may write to with --store DIR, or become its owner or root.",
        ),
        castore::Error::Io { source, .. } => hint_of_store_system(source),
        castore::Error::Busy { .. } => {
            Some("Try again when it has ended; without --no-wait it is waited for.")
        }
        castore::Error::NewerFormat { .. } | castore::Error::Backend { .. } => None,
    }
}

fn hint_of_mount(error: &MountError) -> Option<&'static str> {
    match error {
        MountError::AlreadyMounted { .. } | MountError::NotEmpty { .. } => {
            Some("Choose an empty directory, or mount over it with --allow-nonempty.")
        }
        MountError::Mountpoint { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Some("Make the directory first, with mkdir.")
        }
        MountError::Mountpoint { .. }
        | MountError::NotADirectory { .. }
        | MountError::Name { .. }
        | MountError::Device { .. }
        | MountError::Mount { .. }
        | MountError::NoFusermount { .. }
        | MountError::Fusermount { .. }
        | MountError::MountInfo { .. } => None,
    }
}

/// The system refused the store something.
fn hint_of_store_system(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
            "The store is as it was before. Make room, or choose a store elsewhere with --store DIR.",
        ),
        io::ErrorKind::PermissionDenied => {
            Some("Run it as a user who may do this, or choose another store with --store DIR.")
        }
        _ => None,
    }
}

/// The system refused something else.
fn hint_of_system(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("Make room there, or choose another place.")
        }
        io::ErrorKind::PermissionDenied => Some("Run it as a user who may do this."),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context as _, anyhow};

    #[test]
    fn a_full_disk_is_the_stores_only_if_the_store_is_on_it() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let of_store = castore::Error::Io {
            act: "write",
            path: "/s".into(),
            source: full(),
        };
        let hint = |error: anyhow::Error| super::hint(&error).unwrap();
        assert!(hint(of_store.into()).contains("--store"));
        let of_target = anyhow::Error::from(full()).context("cannot write /target");
        assert!(!hint(of_target).contains("store"));
    }

    #[test]
    fn causes_are_told_once() {
        let error = Err::<(), _>(anyhow!("no space"))
            .context("cannot write x: no space")
            .context("cannot import y")
            .unwrap_err();
        let message = super::message(&error);
        assert_eq!(message, "cannot import y: cannot write x: no space");
    }
}
