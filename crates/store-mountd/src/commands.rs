//! The subcommands, one in each file.

pub(crate) mod check_boot;
pub(crate) mod check_config;
pub(crate) mod completions;
pub(crate) mod export;
pub(crate) mod gc;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod mount;
pub(crate) mod pin;
pub(crate) mod registration;
pub(crate) mod remove;
pub(crate) mod status;
pub(crate) mod unmount;
pub(crate) mod upgrade;
pub(crate) mod verify;
