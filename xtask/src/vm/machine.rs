//! One run of QEMU.

use super::report::{Line, Report};
use crate::{process, sys};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(100);

/// A disk of a machine.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    /// Shows as /dev/disk/by-id/virtio-SERIAL.
    pub(super) serial: &'static str,
    /// Whether what the guest writes is to stay in the file.
    pub(super) keep_writes: bool,
}

/// What to start.
#[derive(Debug)]
pub(super) struct Machine {
    /// Names this run's files in the scenario's directory.
    pub(super) name: &'static str,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) command_line: String,
    pub(super) disks: Vec<Disk>,
    pub(super) memory_mib: u32,
    pub(super) limit: Duration,
    /// A text on the console that ends the run, for guests that do not end by themselves.
    pub(super) until: Option<&'static str>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) console: String,
    /// What the guest measured.
    pub(super) values: BTreeMap<String, f64>,
    /// The guest's script came to its end.
    pub(super) script_ended: bool,
    /// It powered off by itself.
    pub(super) powered_off: bool,
    pub(super) took: Duration,
    /// From the script's end to the power-off.
    pub(super) power_off_took: Option<Duration>,
}

impl Outcome {
    /// What the guest measured by this name.
    pub(super) fn value(&self, name: &str) -> Result<f64> {
        let value = self.values.get(name).copied();
        value.with_context(|| format!("the guest told no {name}"))
    }

    /// Checks that the script came to its end, and then the machine.
    pub(super) fn expect_orderly_end(&self, report: &mut Report) {
        report.check("the script came to its end", self.script_ended, || {
            "it did not say so".to_owned()
        });
        report.check("the machine powers off", self.powered_off, || {
            format!(
                "it ended otherwise; the console ends with {}",
                process::tail(&self.console, 5)
            )
        });
        if let Some(took) = self.power_off_took {
            report.note(&format!("power-off took {took:.1?}"));
        }
    }
}

impl Machine {
    /// Runs the machine to its end, entering into the report what the guest reports.
    pub(super) fn run(
        &self,
        dir: &Path,
        accelerator: &str,
        report: &mut Report,
    ) -> Result<Outcome> {
        let file = |kind: &str| dir.join(format!("{}.{kind}", self.name));
        let (console, results) = (file("console"), file("results"));
        // Of a run before, they would be taken for this one's.
        for old in [&console, &results] {
            if old.exists() {
                fs::remove_file(old).with_context(|| old.display().to_string())?;
            }
        }
        let mut command = self.command(dir, accelerator, &console, &results, &file("journal"));
        let log = file("qemu");
        let qemu_log = File::create(&log).with_context(|| log.display().to_string())?;
        let begin = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(qemu_log.try_clone()?)
            .stderr(qemu_log)
            .spawn()
            .with_context(|| format!("starting {}", process::display(&command)))?;
        let mut running = Running { child };
        let mut reader = Reader::default();
        let mut values = BTreeMap::new();
        let mut script_ended = None;
        let mut powered_off = false;
        loop {
            let status = running.child.try_wait()?;
            for line in reader.lines(&results) {
                match Line::parse(&line) {
                    Line::Ok(name) => report.ok(name),
                    Line::Fail(name, reason) => report.fail(name, reason),
                    Line::Note(text) => report.note(text),
                    Line::Value(name, value) => {
                        values.insert(name.to_owned(), value);
                    }
                    Line::End => script_ended = Some(Instant::now()),
                }
            }
            let text = read_console(&console);
            if let Some(status) = status {
                ensure!(
                    status.success(),
                    "QEMU: {status}: {}",
                    fs::read_to_string(&log).unwrap_or_default().trim()
                );
                powered_off = !text.contains("Kernel panic");
                break;
            }
            if self.until.is_some_and(|until| text.contains(until)) {
                break;
            }
            if sys::interrupted() {
                bail!("interrupted");
            }
            if begin.elapsed() > self.limit {
                bail!(
                    "{}: not done after {:?}; the console ends with\n{}",
                    self.name,
                    self.limit,
                    process::tail(&text, 25)
                );
            }
            std::thread::sleep(POLL);
        }
        drop(running);
        Ok(Outcome {
            console: read_console(&console),
            values,
            script_ended: script_ended.is_some(),
            powered_off,
            took: begin.elapsed(),
            power_off_took: script_ended
                .filter(|_| powered_off)
                .map(|end| end.elapsed()),
        })
    }

    fn command(
        &self,
        dir: &Path,
        accelerator: &str,
        console: &Path,
        results: &Path,
        journal: &Path,
    ) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        // For what is written to disks whose writes are not kept.
        command.env("TMPDIR", dir);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-no-reboot", "-machine", "pc", "-smp", "1"]);
        command.args(["-accel", accelerator, "-cpu"]);
        command.arg(if accelerator == "tcg" {
            // Fewer features are fewer tests of them by the kernel.
            "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand"
        } else {
            "host"
        });
        command.arg("-m").arg(self.memory_mib.to_string());
        command.arg("-kernel").arg(&self.kernel);
        command.arg("-initrd").arg(&self.initrd);
        // No time for what only matters on real hardware, and patience for a loaded host.
        command.arg("-append").arg(format!(
            "console=ttyS0 panic=-1 nokaslr mitigations=off cryptomgr.notests \
             random.trust_cpu=on systemd.default_device_timeout_sec=600 \
             systemd.default_timeout_start_sec=600 {}",
            self.command_line
        ));
        let chardev = |id: &str, path: &Path| {
            let mut text = OsString::from(format!("file,id={id},path="));
            text.push(path);
            text
        };
        command.arg("-chardev").arg(chardev("console", console));
        command.args(["-serial", "chardev:console"]);
        command.args(["-device", "virtio-serial-pci"]);
        command.arg("-chardev").arg(chardev("results", results));
        command.args(["-device", "virtserialport,chardev=results,name=results"]);
        // A terminal, /dev/hvc0, to which journald writes all along.
        command.arg("-chardev").arg(chardev("journal", journal));
        command.args(["-device", "virtconsole,chardev=journal"]);
        for (index, disk) in self.disks.iter().enumerate() {
            let mut drive = OsString::from(format!(
                "if=none,id=disk{index},format=raw,cache=unsafe,snapshot={},file=",
                if disk.keep_writes { "off" } else { "on" }
            ));
            drive.push(&disk.path);
            command.arg("-drive").arg(drive);
            command.arg("-device").arg(format!(
                "virtio-blk-pci,drive=disk{index},serial={}",
                disk.serial
            ));
        }
        command
    }
}

/// The child, which is not to outlive this command.
#[derive(Debug)]
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_console(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a growing file by lines.
#[derive(Debug, Default)]
struct Reader {
    position: usize,
}

impl Reader {
    /// The complete lines that are new.
    fn lines(&mut self, path: &Path) -> Vec<String> {
        let bytes = fs::read(path).unwrap_or_default();
        let new = &bytes[self.position.min(bytes.len())..];
        let Some(end) = new.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        self.position += end + 1;
        let text = String::from_utf8_lossy(&new[..end]);
        text.lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;

    #[test]
    fn only_complete_lines_are_read() -> std::io::Result<()> {
        let path = std::env::temp_dir().join(format!("xtask-reader-{}", std::process::id()));
        let mut reader = Reader::default();
        assert!(reader.lines(&path).is_empty());
        std::fs::write(&path, "one\ntw")?;
        assert_eq!(reader.lines(&path), ["one"]);
        assert!(reader.lines(&path).is_empty());
        std::fs::write(&path, "one\ntwo\nthree\n")?;
        assert_eq!(reader.lines(&path), ["two", "three"]);
        std::fs::remove_file(&path)
    }
}
