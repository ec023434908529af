//! The load by itself: what it finds is not its own doing.

use super::scene::{CACHED, PASSTHROUGH, Scene};
use anyhow::Result;

#[test]
fn the_load_finds_nothing_wrong_in_peace() -> Result<()> {
    for (what, options) in [("cached", CACHED), ("passthrough", PASSTHROUGH)] {
        let mut scene = Scene::new(options)?;
        scene.work_until(50_000)?;
        scene.ask()?;
        println!("REPORT in peace, {what}: {}", scene.finish()?);
    }
    Ok(())
}
