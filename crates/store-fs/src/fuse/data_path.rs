use std::fmt;

use rustix::thread::{CapabilitySet, capabilities};

use super::init::Offer;
use crate::State;

/// How the contents of files get to who reads them.
///
/// | | opening a file | a file is read | in the page cache |
/// |---|---|---|---|
/// | `Cached` | is not asked | from the kernel's cache, else by a request | its pages and, unless they were dropped, the store's |
/// | `Passthrough` | is a request | if the store has it as a whole file, by the kernel itself; else as above | the store's file alone |
///
/// `Passthrough` gives what is in the store's file unchecked, so it depends on
/// the store whether there are such files: one that verifies each read names
/// none. It needs Linux 6.9 and CAP_SYS_ADMIN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DataPath {
    /// The best that can be had: `Cached`, which opens and reads small files
    /// fastest, and those are most of a store.
    #[default]
    Auto,
    /// Through the kernel's cache.
    Cached,
    /// By the kernel from the store's files where possible. Where the kernel or
    /// privileges do not allow it, `Cached`.
    Passthrough,
}

impl DataPath {
    /// Decides for a connection, for which somebody else may make files known
    /// to the kernel; never answers `Auto`.
    pub(super) fn decide(self, offer: &Offer, has_backing: bool) -> Self {
        match self {
            Self::Auto | Self::Cached => Self::Cached,
            Self::Passthrough if !offer.passthrough() => {
                tracing::warn!("this kernel cannot pass reads through: files are read by requests");
                Self::Cached
            }
            Self::Passthrough if !has_backing && !is_privileged() => {
                tracing::warn!(
                    "passing reads through needs CAP_SYS_ADMIN: files are read by requests"
                );
                Self::Cached
            }
            Self::Passthrough => Self::Passthrough,
        }
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cached => "cached",
            Self::Passthrough => "passthrough",
        })
    }
}

impl State {
    /// How contents are read, once the connection is set up; never `Auto`.
    pub fn data_path(&self) -> Option<DataPath> {
        self.decided().map(|decided| match decided.passthrough {
            true => DataPath::Passthrough,
            false => DataPath::Cached,
        })
    }
}

fn is_privileged() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}
