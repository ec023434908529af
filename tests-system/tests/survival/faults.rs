//! The worker dies at each kind of request, at each moment of it.

use super::scene::{CACHED, EVERYBODY, LIMIT, PASSTHROUGH, load_program};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use system_tests::counts::full;
use system_tests::load::Plan;
use system_tests::mountd::processes::wait_until;
use system_tests::mountd::{MountOptions, status};
use system_tests::rng::Rng;

/// What the kernel asks once only, or never again after it was told so, in the order in which a
/// new mount, `cat` and `ls` bring it about.
const ONCE: [&str; 4] = ["init", "open", "flush", "opendir"];
/// What it asks again and again, and the how many-th time is the last. (READDIR it never asks: it
/// is told to ask for names with their nodes.)
const OFTEN: [(&str, u32); 9] = [
    ("lookup", 100),
    ("getattr", 1),
    ("readlink", 3),
    ("read", 50),
    ("readdirplus", 5),
    ("statfs", 1),
    ("forget", 1),
    ("batch_forget", 2),
    ("interrupt", 1),
];
/// Those without an answer: between doing and answering them nothing can happen.
const UNANSWERED: [&str; 3] = ["forget", "batch_forget", "interrupt"];
/// Where files are opened by request.
const OPENED: [(&str, u32); 2] = [("open", 20), ("release", 20)];

const MOMENTS: [&str; 3] = ["taken", "done", "answered"];

fn die_at_each(what: &str, moment: &str, options: MountOptions) -> Result<usize> {
    let mut faults: Vec<String> = (ONCE.iter())
        .map(|opcode| format!("kill:{opcode}:{moment}"))
        .collect();
    let opened = (options.data_path == PASSTHROUGH.data_path).then_some(OPENED);
    for (opcode, count) in OFTEN.iter().chain(opened.iter().flatten()) {
        if moment == "done" && UNANSWERED.contains(opcode) {
            continue;
        }
        faults.push(format!("kill:{opcode}:{moment}:{count}"));
    }
    let mut more = Vec::new();
    for fault in &faults {
        more.extend(["--test-fault", fault]);
    }
    let plan = Plan::new(&mut Rng::from_env(), load_program())?;
    let mounted = plan.store().mount_with(options, &more)?;
    let top = mounted.path().join(plan.name());
    run_within(LIMIT, "cat", &top.join("small/dir-1/sub-1/file-3"))?;
    run_within(LIMIT, "ls", &top.join("small"))?;
    let deaths = || {
        status(plan.store(), mounted.path())?["restarts"]
            .as_u64()
            .context("no restarts")
    };
    ensure!(
        deaths()? == ONCE.len() as u64,
        "{what}, {moment}: of {ONCE:?} only {} were met\n{}",
        deaths()?,
        mounted.messages()
    );

    let mut load = plan.start(mounted.path(), EVERYBODY)?;
    let all = faults.len() as u64;
    let mut met = deaths()?;
    while met < all {
        let next = &faults[met as usize];
        let died = wait_until("a worker dies", Duration::from_secs(120), || {
            load.expect_alive(LIMIT)?;
            std::thread::sleep(Duration::from_millis(50));
            Ok(deaths()? > met)
        });
        died.with_context(|| format!("{what}: {next}\n{}", mounted.messages()))?;
        met = deaths()?;
    }
    load.finish().with_context(|| mounted.messages())?;
    let finished = mounted.stop()?;
    ensure!(finished.code == Some(0), "{finished:?}");
    Ok(faults.len())
}

/// Runs a program on a file. It must not take longer, and work.
fn run_within(limit: Duration, program: &str, path: &Path) -> Result<()> {
    let mut command = std::process::Command::new(program);
    let mut child = command.arg(path).stdout(Stdio::null()).spawn()?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{program} {}: {status}", path.display());
            return Ok(());
        }
        if Instant::now() > end {
            let _ = child.kill();
            anyhow::bail!("{program} {} hangs", path.display());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn workers_die_at_each_request_and_moment() -> Result<()> {
    let without = |options: MountOptions| MountOptions {
        more: &["--test-no-resend"],
        ..options
    };
    let mut kinds = vec![
        ("cached", CACHED),
        ("passthrough, without RESEND", without(PASSTHROUGH)),
    ];
    if full() {
        kinds.push(("passthrough", PASSTHROUGH));
        kinds.push(("cached, without RESEND", without(CACHED)));
    }
    for (what, options) in kinds {
        for moment in MOMENTS {
            let deaths = die_at_each(what, moment, options)?;
            println!("REPORT {what}: died at {deaths} kinds of request, {moment}");
        }
    }
    Ok(())
}
