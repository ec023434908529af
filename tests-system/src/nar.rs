//! Renders a NAR from a filesystem, as Nix would, and hashes it; unpacks one too. Written here a
//! second time on purpose: it must not share a mistake with the code under test.

use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The SHA-256 (in hexadecimal) and the size of the NAR of what is at `path`.
pub fn hash(path: &Path) -> Result<(String, u64)> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting sha256sum")?;
    let stdin = child.stdin.take().context("no standard input")?;
    let mut out = Counted(BufWriter::new(stdin), 0);
    string(&mut out, b"nix-archive-1")?;
    node(&mut out, path)?;
    out.0.flush()?;
    let size = out.1;
    drop(out);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "sha256sum: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let hash = text.split(' ').next().unwrap_or_default();
    Ok((hash.to_owned(), size))
}

struct Counted<W>(W, u64);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = self.0.write(bytes)?;
        self.1 += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn string(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)?;
    out.write_all(&[0; 8][..bytes.len().next_multiple_of(8) - bytes.len()])?;
    Ok(())
}

fn strings(out: &mut impl Write, list: &[&[u8]]) -> Result<()> {
    list.iter().try_for_each(|bytes| string(out, bytes))
}

fn node(out: &mut impl Write, path: &Path) -> Result<()> {
    let name = || path.display().to_string();
    let metadata = fs::symlink_metadata(path).with_context(name)?;
    strings(out, &[b"(", b"type"])?;
    if metadata.is_symlink() {
        let target = fs::read_link(path).with_context(name)?;
        strings(out, &[b"symlink", b"target", target.as_os_str().as_bytes()])?;
    } else if metadata.is_file() {
        string(out, b"regular")?;
        if metadata.permissions().mode() & 0o100 != 0 {
            strings(out, &[b"executable", b""])?;
        }
        let content = fs::read(path).with_context(name)?;
        strings(out, &[b"contents", &content])?;
    } else if metadata.is_dir() {
        string(out, b"directory")?;
        let list = fs::read_dir(path).with_context(name)?;
        let names = list.map(|entry| entry.map(|entry| entry.file_name().into_vec()));
        let mut names = names.collect::<Result<Vec<_>, _>>().with_context(name)?;
        names.sort();
        for name in names {
            strings(out, &[b"entry", b"(", b"name", &name, b"node"])?;
            node(out, &path.join(OsStr::from_bytes(&name)))?;
            string(out, b")")?;
        }
    } else {
        bail!("{} is a special file", path.display());
    }
    string(out, b")")
}

/// Unpacks a NAR that is known to be good.
pub fn unpack(nar: &[u8], target: &Path) -> Result<()> {
    let mut reader = Reader(nar);
    reader.expect(b"nix-archive-1")?;
    reader.node(target)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn string(&mut self) -> Result<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk().context("the NAR is cut short")?;
        let len = u64::from_le_bytes(*len) as usize;
        ensure!(
            rest.len() >= len.next_multiple_of(8),
            "the NAR is cut short"
        );
        self.0 = &rest[len.next_multiple_of(8)..];
        Ok(&rest[..len])
    }

    fn expect(&mut self, wanted: &[u8]) -> Result<()> {
        let found = self.string()?;
        ensure!(
            found == wanted,
            "{:?} where a NAR has {:?}",
            String::from_utf8_lossy(found),
            String::from_utf8_lossy(wanted)
        );
        Ok(())
    }

    fn node(&mut self, target: &Path) -> Result<()> {
        self.expect(b"(")?;
        self.expect(b"type")?;
        match self.string()? {
            b"symlink" => {
                self.expect(b"target")?;
                std::os::unix::fs::symlink(OsStr::from_bytes(self.string()?), target)?;
                self.expect(b")")
            }
            b"regular" => {
                let mut mode = 0o644;
                let mut tag = self.string()?;
                if tag == b"executable" {
                    mode = 0o755;
                    self.expect(b"")?;
                    tag = self.string()?;
                }
                let content = if tag == b"contents" {
                    let content = self.string()?;
                    self.expect(b")")?;
                    content
                } else {
                    b""
                };
                fs::write(target, content)?;
                fs::set_permissions(target, fs::Permissions::from_mode(mode))?;
                Ok(())
            }
            _ => {
                fs::create_dir(target)?;
                while self.string()? == b"entry" {
                    self.expect(b"(")?;
                    self.expect(b"name")?;
                    let name = OsStr::from_bytes(self.string()?);
                    self.expect(b"node")?;
                    self.node(&target.join(name))?;
                    self.expect(b")")?;
                }
                Ok(())
            }
        }
    }
}
