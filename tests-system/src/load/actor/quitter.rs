//! Readers that are killed, and threads that are interrupted, in the middle of a request.

use super::Actor;
use anyhow::{Context as _, Result};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How soon a killed reader has to be gone, whatever it waited for. (The kernel does not let it go
/// before its request is answered.)
const GONE: Duration = Duration::from_secs(60);

/// Starts programs that read cold files, and kills them at random moments.
pub(super) fn quit(actor: &mut Actor<'_>) -> Result<()> {
    while actor.goes_on() {
        let (name, _, _) = actor.pick();
        let path = actor.path(&name);
        if let Some(fd) = actor.open(&path) {
            actor.cool_file(&fd, &path);
        }
        let mut child = Command::new(actor.path("bin/cat".as_ref()))
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting a program that will be killed")?;
        actor.pause(Duration::from_millis(4));
        child.kill()?;
        let killed = Instant::now();
        child.wait()?;
        let took = killed.elapsed();
        actor.site.record.expect(took < GONE, || {
            format!("a killed reader was gone after {took:?}")
        });
        actor.pause(Duration::from_millis(10));
    }
    Ok(())
}

/// Interrupts all other actors, again and again.
pub(super) fn nudge(actor: &mut Actor<'_>) -> Result<()> {
    while actor.goes_on() {
        actor.pause(Duration::from_micros(500));
        let number = actor.rng.next_u64();
        actor.site.nudged.nudge(number);
    }
    Ok(())
}
