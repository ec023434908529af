//! The load of the survival tests: see `system_tests::load`.
//!
//! `load SCENE MOUNTPOINT NAME SEED [lists-root] [ROLE=COUNT…]` works until its standard input
//! ends. A line there asks for a line of figures.
//!
//! `load ask MOUNTPOINT` asks the mount something for each line of its standard input.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use system_tests::load::actor::{Actor, Site, Watcher};
use system_tests::load::scene::Scene;
use system_tests::load::{Asker, Threads};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.len() == 2 {
        let _ = arguments.next();
        return Asker::serve(Path::new(&arguments.next().context("no mountpoint")?));
    }
    let mut next = |what: &'static str| arguments.next().context(what);
    let scene = std::fs::read_to_string(next("no scene")?)?;
    let mountpoint = PathBuf::from(next("no mountpoint")?);
    let name = next("no name")?;
    let seed: u64 = next("no seed")?.parse()?;
    let mut roles = Vec::new();
    let mut lists_root = false;
    for argument in arguments {
        match argument.split_once('=') {
            Some((role, count)) => {
                let role = Actor::role(role)?;
                roles.extend(std::iter::repeat_n(role, count.parse()?));
            }
            None if argument == "lists-root" => lists_root = true,
            None => bail!("what is {argument}?"),
        }
    }
    let scene = Scene::from_text(&scene)?;
    let site = Site::new(&mountpoint, Path::new(&name), scene, lists_root);
    Threads::prepare()?;
    let watcher = Watcher::new(&site, 0)?;
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| watcher.watch());
        for (number, role) in roles.into_iter().enumerate() {
            let actor = Actor::new(&site, number + 1, seed);
            scope.spawn(move || actor.play(role));
        }
        let answered = answer(&site);
        site.record.end();
        answered
    })?;
    for failure in site.record.failures() {
        println!("FAILED {failure}");
    }
    println!("{}", site.record.line());
    Ok(ExitCode::SUCCESS)
}

/// Tells the figures whenever asked.
fn answer(site: &Site) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", site.record.line())?;
    for line in std::io::stdin().lock().lines() {
        line?;
        if let Some((waits, what)) = site.record.waiting()
            && waits.as_secs() >= 2
        {
            writeln!(stdout, "WAITS {:.1} s for {what}", waits.as_secs_f64())?;
        }
        for failure in site.record.failures() {
            writeln!(stdout, "FAILED {failure}")?;
        }
        writeln!(stdout, "{}", site.record.line())?;
    }
    Ok(())
}
