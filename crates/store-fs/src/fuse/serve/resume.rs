//! Goes on where another process ended, at whatever moment that was.
//!
//! | it had | what becomes of it |
//! |---|---|
//! | not been given a request | nothing |
//! | INIT | it is answered once more from its desk, before all else: without an answer nothing works, and one that the kernel has already is not taken |
//! | FORGET | nobody asks it again: what was not begun is done now |
//! | RELEASE, begun | it is only answered, when it comes again |
//! | anything else | the kernel asks it again (FUSE_NOTIFY_RESEND) or, before Linux 6.9, it is done again from its desk |

use fuse_backend_rs::abi::fuse_abi::Opcode;

use super::{
    engine::{Buffer, Engine, write_all},
    worker::Job,
};
use crate::{
    fuse::wire::{self, Header},
    state::desk::{Card, Desk},
};

/// Sees to what is left; answers what is to be handled once more.
pub(super) fn resume(engine: &Engine, left: Vec<Desk>, resend: bool) -> Vec<Job> {
    let mut again = Vec::new();
    for mut desk in left {
        let header = match (wire::len(desk.bytes()), Header::parse(desk.bytes())) {
            (Some(1..), Some(header)) => header,
            _ => continue,
        };
        if header.is(Opcode::Init) {
            engine.handle(&mut desk, &header, &mut Buffer::default());
        } else if header.is(Opcode::Forget) || header.is(Opcode::BatchForget) {
            engine.forget(&mut desk, &header);
        } else if header.is(Opcode::Release) && desk.has_begun() {
            if resend {
                engine.released.keep(header.unique, desk);
            } else {
                again.push(Job { desk, header });
            }
        } else if !resend {
            desk.taken(Card {
                unique: header.unique,
                node: header.node,
                opcode: header.opcode,
                pid: header.pid,
            });
            again.push(Job { desk, header });
        }
    }
    if resend {
        match write_all(&engine.fd, &wire::resend()) {
            Ok(()) => tracing::debug!("the kernel asks again what was not answered"),
            Err(error) => tracing::warn!(%error, "the kernel does not ask again"),
        }
    }
    again
}
