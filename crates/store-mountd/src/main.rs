//! `store-mountd`: see `store-mountd --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    store_mountd::main()
}
