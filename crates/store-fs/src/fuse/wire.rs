//! The few parts of the protocol that the transport itself reads and writes;
//! the rest is `fuse-backend-rs`'.

use fuse_backend_rs::abi::fuse_abi::Opcode;

/// Bytes of the header of a request.
const IN_HEADER: usize = 40;
/// Bytes of the header of a reply.
pub(super) const OUT_HEADER: usize = 16;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What the loop itself has to know of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) pid: u32,
}

impl Header {
    pub(super) fn parse(request: &[u8]) -> Option<Self> {
        // len u32, opcode u32, unique u64, nodeid u64, …
        Some(Self {
            opcode: u32_at(request, 4)?,
            unique: u64_at(request, 8)?,
            node: u64_at(request, 16)?,
            // uid u32, gid u32
            pid: u32_at(request, 32)?,
        })
    }

    pub(super) fn is(&self, opcode: Opcode) -> bool {
        self.opcode == opcode as u32
    }

    /// Whether somebody waits for an answer.
    pub(super) fn wants_reply(&self) -> bool {
        !(self.is(Opcode::Forget) || self.is(Opcode::BatchForget) || self.is(Opcode::NotifyReply))
    }
}

/// The body of READ, and of READDIR and READDIRPLUS.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadIn {
    pub(super) offset: u64,
    pub(super) size: usize,
}

impl ReadIn {
    pub(super) fn parse(request: &[u8]) -> Option<Self> {
        // fh u64, offset u64, size u32, …
        Some(Self {
            offset: u64_at(request, IN_HEADER + 8)?,
            size: usize::try_from(u32_at(request, IN_HEADER + 16)?).ok()?,
        })
    }
}

/// The flags that INIT offers.
pub(super) fn init_flags(request: &[u8]) -> Option<u64> {
    // major u32, minor u32, max_readahead u32, flags u32, flags2 u32, …
    let low = u64::from(u32_at(request, IN_HEADER + 12)?);
    // Kernels before 5.17 have no second word.
    let high = u64::from(u32_at(request, IN_HEADER + 16).unwrap_or_default());
    Some(low | high << 32)
}

/// Sets what `fuse-backend-rs` does not know in a reply to INIT, if it is one
/// that sets the connection up.
pub(super) fn amend_init(reply: &mut [u8], flags: u64, max_write: u32, max_stack_depth: u32) {
    // major, minor, max_readahead, flags, 2 × u16, max_write, time_gran,
    // 2 × u16, flags2, max_stack_depth, …
    const FLAGS: usize = OUT_HEADER + 12;
    const MAX_WRITE: usize = OUT_HEADER + 20;
    const FLAGS2: usize = OUT_HEADER + 32;
    const DEPTH: usize = OUT_HEADER + 36;
    let (Some(low), Some(high)) = (u32_at(reply, FLAGS), u32_at(reply, FLAGS2)) else {
        return;
    };
    if reply.len() < DEPTH + 4 {
        return;
    }
    let set = u64::from(low) | u64::from(high) << 32 | flags;
    reply[FLAGS..][..4].copy_from_slice(&(set as u32).to_ne_bytes());
    reply[MAX_WRITE..][..4].copy_from_slice(&max_write.to_ne_bytes());
    reply[FLAGS2..][..4].copy_from_slice(&((set >> 32) as u32).to_ne_bytes());
    reply[DEPTH..][..4].copy_from_slice(&max_stack_depth.to_ne_bytes());
}

/// The header of a reply: of `len` bytes in all, or with an error number.
pub(super) fn out_header(unique: u64, len: usize, errno: i32) -> [u8; OUT_HEADER] {
    let mut out = [0; OUT_HEADER];
    out[..4].copy_from_slice(&(len as u32).to_ne_bytes());
    out[4..8].copy_from_slice(&(-errno).to_ne_bytes());
    out[8..].copy_from_slice(&unique.to_ne_bytes());
    out
}

/// The length of a message, which is its first word.
pub(super) fn len(message: &[u8]) -> Option<usize> {
    usize::try_from(u32_at(message, 0)?).ok()
}

/// What a reply answers.
pub(super) fn answers(reply: &[u8]) -> Option<u64> {
    u64_at(reply, 8)
}

/// The file that RELEASE closes.
pub(super) fn release_handle(request: &[u8]) -> Option<u64> {
    u64_at(request, IN_HEADER)
}

/// The request that INTERRUPT is about.
pub(super) fn interrupted(request: &[u8]) -> Option<u64> {
    u64_at(request, IN_HEADER)
}

/// The nodes that FORGET and BATCH_FORGET are about, and how many lookups of
/// each are taken back.
pub(super) fn forgets(header: &Header, request: &[u8]) -> Vec<(u64, u64)> {
    if header.is(Opcode::Forget) {
        let count = u64_at(request, IN_HEADER);
        return count
            .map(|count| (header.node, count))
            .into_iter()
            .collect();
    }
    // count u32, padding u32, and so many times: nodeid u64, nlookup u64
    let count = u32_at(request, IN_HEADER).unwrap_or_default();
    let entries = (0..count as usize).map_while(|index| {
        let at = IN_HEADER + 8 + index * 16;
        Some((u64_at(request, at)?, u64_at(request, at + 8)?))
    });
    entries.collect()
}

/// A notification: a reply to nothing, its code where the error would be.
fn notification(code: i32, len: usize) -> [u8; OUT_HEADER] {
    out_header(0, len, -code)
}

/// FUSE_NOTIFY_INVAL_INODE: drops all that is cached of a node.
pub(super) fn invalidate(node: u64) -> [u8; OUT_HEADER + 24] {
    const CODE: i32 = 2;
    let mut out = [0; OUT_HEADER + 24];
    let len = out.len();
    out[..OUT_HEADER].copy_from_slice(&notification(CODE, len));
    out[OUT_HEADER..][..8].copy_from_slice(&node.to_ne_bytes());
    // From offset 0, to the end: 0.
    out
}

/// FUSE_NOTIFY_INVAL_ENTRY: drops what is known of a name.
pub(super) fn invalidate_entry(parent: u64, name: &[u8]) -> Vec<u8> {
    const CODE: i32 = 3;
    let len = OUT_HEADER + 16 + name.len() + 1;
    let mut out = notification(CODE, len).to_vec();
    out.extend(parent.to_ne_bytes());
    out.extend((name.len() as u32).to_ne_bytes());
    out.extend([0; 4]);
    out.extend(name);
    out.push(0);
    out
}

/// FUSE_NOTIFY_RESEND: asks for all again that was taken and not answered.
pub(super) fn resend() -> [u8; OUT_HEADER] {
    const CODE: i32 = 7;
    notification(CODE, OUT_HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_cut_short_is_none() {
        for len in 0..36 {
            assert!(Header::parse(&vec![1; len]).is_none(), "{len}");
        }
        for len in 0..60 {
            assert!(ReadIn::parse(&vec![1; len]).is_none(), "{len}");
        }
        assert!(init_flags(&[0; 55]).is_none());
        assert_eq!(init_flags(&[0xff; 56]), Some(0xffff_ffff));
        assert_eq!(init_flags(&[0xff; 60]), Some(u64::MAX));
    }

    #[test]
    fn a_short_reply_to_init_is_left_alone() {
        for len in 0..56 {
            let mut reply = vec![0; len];
            amend_init(&mut reply, u64::MAX, 1, 1);
            assert!(reply.iter().all(|byte| *byte == 0), "{len}");
        }
        let mut reply = [0; 80];
        amend_init(&mut reply, 1 << 30 | 1 << 37, 4096, 1);
        assert_eq!(u32_at(&reply, 36), Some(4096));
        assert_eq!(u32_at(&reply, 28), Some(1 << 30));
        assert_eq!(u32_at(&reply, 48), Some(1 << 5));
        assert_eq!(u32_at(&reply, 52), Some(1));
    }
}
