//! System calls, by seccomp.

mod lists;

use std::{collections::BTreeMap, env};

use anyhow::{Context as _, Result, anyhow};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// No rules: whatever the arguments are.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Lets a worker call what serving needs. What is forbidden gives EPERM, and
/// the rest is answered by `otherwise`.
pub(super) fn of_worker(network: bool, otherwise: &SeccompAction) -> Result<()> {
    let mut forbidden = unconditional(lists::DANGEROUS);
    forbidden.append(&mut unconditional(lists::OTHER_PROCESSES));
    forbidden.append(&mut unconditional(lists::CHANGING));
    if !network {
        forbidden.append(&mut unconditional(lists::NETWORK));
    }
    // Signals are for oneself: an abort is one.
    let own = std::process::id() as i32;
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        forbidden.insert(call, vec![rule(&[(0, SeccompCmpOp::Ne, own)])?]);
    }
    // Its flags are out of a filter's sight. Libraries use `clone` when there is
    // none.
    let hidden = unconditional(&[libc::SYS_clone3]);
    // Of two filters that both refuse the stricter counts. So what one forbids
    // is nothing to the other.
    let calls: Vec<_> = forbidden.keys().copied().collect();
    let mut allowed = unconditional(&calls);
    allowed.append(&mut hidden.clone());
    forbid(forbidden, libc::EPERM)?;
    forbid(hidden, libc::ENOSYS)?;
    allowed.append(&mut unconditional(lists::SERVING));
    allowed.append(&mut unconditional(lists::NETWORK));
    if network {
        allowed.append(&mut unconditional(&[libc::SYS_mmap, libc::SYS_mprotect]));
    } else {
        // Without libraries that are loaded for names of hosts, no code is to
        // come any more.
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            allowed.insert(call, vec![rule(&[(2, masked(libc::PROT_EXEC), 0)])?]);
        }
    }
    let thread = libc::CLONE_THREAD;
    allowed.insert(libc::SYS_clone, vec![rule(&[(0, masked(thread), thread)])?]);
    allowed.insert(libc::SYS_prctl, any_of(0, lists::PRCTL)?);
    allowed.insert(libc::SYS_ioctl, any_of(1, lists::IOCTL)?);
    allowed.insert(libc::SYS_madvise, any_of(2, lists::MADVISE)?);
    // To look at limits, not to set them.
    let nothing = condition(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    let look = SeccompRule::new(vec![nothing]).map_err(backend)?;
    allowed.insert(libc::SYS_prlimit64, vec![look]);
    install(allowed, otherwise.clone(), SeccompAction::Allow)
}

/// Forbids a supervisor what would be bad and no worker of any version does.
pub(super) fn of_supervisor() -> Result<()> {
    forbid(unconditional(lists::DANGEROUS), libc::EPERM)
}

fn forbid(rules: Rules, errno: i32) -> Result<()> {
    let forbidden = SeccompAction::Errno(errno as u32);
    install(rules, SeccompAction::Allow, forbidden)
}

fn install(rules: Rules, otherwise: SeccompAction, listed: SeccompAction) -> Result<()> {
    let arch = env::consts::ARCH;
    let arch = arch
        .try_into()
        .map_err(|_| anyhow!("system calls of {arch} are not known"))?;
    let filter = SeccompFilter::new(rules, otherwise, listed, arch).map_err(backend)?;
    let program: BpfProgram = filter.try_into().map_err(backend)?;
    apply_filter(&program).context("cannot give up system calls")
}

fn unconditional(calls: &[c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn any_of(argument: u8, values: &[i64]) -> Result<Vec<SeccompRule>> {
    let rules = values.iter().map(|value| {
        let value = *value as u32;
        rule(&[(argument, SeccompCmpOp::Eq, value as i32)])
    });
    rules.collect()
}

/// A rule of 32-bit arguments.
fn rule(conditions: &[(u8, SeccompCmpOp, i32)]) -> Result<SeccompRule> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        let value = u64::from(*value as u32);
        condition(*argument, SeccompCmpArgLen::Dword, operator.clone(), value)
    });
    SeccompRule::new(conditions.collect::<Result<_>>()?).map_err(backend)
}

fn condition(
    argument: u8,
    len: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, len, operator, value).map_err(backend)
}

fn masked(bits: i32) -> SeccompCmpOp {
    SeccompCmpOp::MaskedEq(u64::from(bits as u32))
}

fn backend(error: seccompiler::BackendError) -> anyhow::Error {
    anyhow!("cannot make a filter of system calls: {error}")
}
