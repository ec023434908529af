//! What a program needs before it does anything: itself, its interpreter, and
//! their shared libraries, as the kernel and the dynamic linker find them
//! (execve(2), ld.so(8)).

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use goblin::elf::Elf;

/// What else starts with a program, where it is there: of a NixOS system, whose
/// `init` it is, systemd; and of systemd the program that executes all others.
const COMPANIONS: [&str; 2] = ["systemd/lib/systemd/systemd", "systemd-executor"];

/// Where a library is looked for that no program names the directory of, beside
/// that of the interpreter.
const LIBRARY_DIRS: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

/// Reads a program, and all that it needs to start, from the first to the last
/// byte. Answers how many files these are.
///
/// A library that is in none of the places known here is left out: there are
/// others, which the dynamic linker knows.
///
/// # Errors
///
/// If one of them is not there or cannot be read; the error begins with its path.
pub(crate) fn read(program: &Path) -> Result<usize> {
    let mut files = Files::default();
    files.add(program.to_owned())?;
    while let Some(file) = files.left.pop() {
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        if let Some(line) = bytes.strip_prefix(b"#!") {
            files.add_interpreter(line)?;
        } else if bytes.starts_with(goblin::elf::header::ELFMAG) {
            let elf = Elf::parse(&bytes).with_context(|| file.display().to_string())?;
            files.add_libraries(&file, &elf)?;
        }
    }
    Ok(files.known.len())
}

/// The files that were met, by their canonical paths.
#[derive(Debug, Default)]
struct Files {
    known: BTreeSet<PathBuf>,
    left: Vec<PathBuf>,
    interpreters_dir: Option<PathBuf>,
}

impl Files {
    fn add(&mut self, path: PathBuf) -> Result<()> {
        let found = self.add_found(&path)?;
        ensure!(found, "{}: it is not there", path.display());
        Ok(())
    }

    /// Answers whether it is there.
    fn add_found(&mut self, path: &Path) -> Result<bool> {
        let file = match path.canonicalize() {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok(false),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if !self.known.insert(file.clone()) {
            return Ok(true);
        }
        self.left.push(file.clone());
        for dir in [path.parent(), file.parent()].into_iter().flatten() {
            for companion in COMPANIONS {
                self.add_found(&dir.join(companion))?;
            }
        }
        Ok(true)
    }

    /// `line` is what follows `#!`.
    fn add_interpreter(&mut self, line: &[u8]) -> Result<()> {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match line.split_whitespace().next() {
            Some(interpreter) => self.add(interpreter.into()),
            None => Ok(()),
        }
    }

    fn add_libraries(&mut self, file: &Path, elf: &Elf<'_>) -> Result<()> {
        if let Some(interpreter) = elf.interpreter {
            self.add(interpreter.into())?;
            let file = Path::new(interpreter).canonicalize()?;
            self.interpreters_dir = file.parent().map(Path::to_owned);
        }
        let origin = file.parent().unwrap_or(Path::new("/")).to_string_lossy();
        let named = (elf.runpaths.iter().chain(&elf.rpaths))
            .flat_map(|dirs| dirs.split(':'))
            .map(|dir| {
                dir.replace("${ORIGIN}", &origin)
                    .replace("$ORIGIN", &origin)
            });
        let dirs: Vec<PathBuf> = named
            .chain(LIBRARY_DIRS.map(str::to_owned))
            .map(PathBuf::from)
            .chain(self.interpreters_dir.clone())
            .collect();
        for library in &elf.libraries {
            for dir in &dirs {
                // A library that is named by its path is looked for nowhere else.
                if self.add_found(&dir.join(library))? {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Files, read};

    #[test]
    fn this_program_starts_with_its_interpreter_and_libraries() {
        let program = std::env::current_exe().unwrap();
        let bytes = fs::read(&program).unwrap();
        let elf = goblin::elf::Elf::parse(&bytes).unwrap();
        let mut files = Files::default();
        files.add_libraries(&program, &elf).unwrap();
        let interpreter = elf
            .interpreter
            .map(|path| Path::new(path).canonicalize().unwrap());
        assert!(interpreter.is_none_or(|path| files.known.contains(&path)));
        // A static program has neither.
        assert!(files.known.len() >= elf.libraries.len(), "{files:?}");
        assert!(read(&program).unwrap() > files.known.len());
    }

    #[test]
    fn a_script_starts_with_its_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("init");
        let interpreter = dir.path().join("shell");
        let systemd = dir.path().join("systemd/lib/systemd");
        fs::write(&script, format!("#! {} -e\n", interpreter.display())).unwrap();
        let error = format!("{:#}", read(&script).unwrap_err());
        assert_eq!(error, format!("{}: it is not there", interpreter.display()));

        fs::write(&interpreter, "not a script").unwrap();
        assert_eq!(read(&script).unwrap(), 2);
        // A system's init, with its systemd.
        fs::create_dir_all(&systemd).unwrap();
        fs::write(systemd.join("systemd"), "").unwrap();
        fs::write(systemd.join("systemd-executor"), "").unwrap();
        assert_eq!(read(&script).unwrap(), 4);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let init = dir.path().join("init");
        std::os::unix::fs::symlink("init", &init).unwrap();
        let error = format!("{:#}", read(&init).unwrap_err());
        assert!(error.starts_with(&init.display().to_string()), "{error}");
    }
}
