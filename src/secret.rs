//! Files that hold a secret: read only if their owner alone can use them, made complete or not at all, never overwritten.

use std::{
    fmt, fs,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::error::{Error, Result, Status, quote};

/// A file and what sentences call it. Every failure is [`Status::BadKey`], and nothing of what a file holds gets into one.
#[derive(Clone, Copy)]
pub struct SecretFile<'a> {
    what: &'static str,
    path: &'a Path,
}

impl<'a> SecretFile<'a> {
    pub fn new(what: &'static str, path: &'a Path) -> Result<Self> {
        if path.as_os_str().is_empty() {
            return Err(Error::new(Status::BadKey, format!("{what} has an empty name; write the path of a file")));
        }
        Ok(SecretFile { what, path })
    }

    /// What is in the file, at most `max` bytes; `None` if there is no such file. `larger` ends the sentence about one that is
    /// larger.
    pub fn read(self, max: u64, larger: &str) -> Result<Option<Vec<u8>>> {
        // Without O_NONBLOCK the open of a named pipe would wait for a writer.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let file = loop {
            match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(self.path) {
                Ok(file) => break file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(self.path) {
                    Ok(found) if found.is_symlink() => {
                        return Err(self.bad("is a symbolic link to a file that does not exist"));
                    }
                    // Made by another process since the open.
                    Ok(_) => {}
                    Err(_) => return Ok(None),
                },
                Err(e) => return Err(self.system("can not be opened", &e)),
            }
        };
        let metadata = file.metadata().map_err(|e| self.system("can not be read", &e))?;
        if metadata.is_dir() {
            return Err(self.bad("is a folder; write the path of a file in it"));
        }
        if !metadata.is_file() {
            return Err(self.bad("is not a regular file"));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(self.bad(format_args!(
                "can be used by others (mode {mode:04o}); allow only its owner: chmod 600 {}",
                shown(self.path)
            )));
        }
        let mut bytes = Vec::new();
        file.take(max + 1).read_to_end(&mut bytes).map_err(|e| self.system("can not be read", &e))?;
        if bytes.len() as u64 > max {
            return Err(self.bad(format_args!("is larger than {max} bytes and so not {larger}")));
        }
        Ok(Some(bytes))
    }

    /// Makes the file, for its owner alone (mode 0600); says whether it did, or there was one already.
    pub fn create(self, bytes: &[u8]) -> Result<bool> {
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = Temporary::new(folder).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                let why = format_args!("can not be made: its folder '{}' does not exist", shown(folder));
                let mut error = self.bad(why);
                error.system_error = e.raw_os_error().unwrap_or(0);
                error
            }
            _ => self.system("can not be made", &e),
        })?;
        let placed = temporary.write(bytes).and_then(|()| place(&temporary.path, self.path));
        if !placed.map_err(|e| self.system("can not be made", &e))? {
            return Ok(false);
        }
        // The file is whole by now; this only makes its name outlive a power cut, and not every file system can.
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(true)
    }

    pub fn bad(self, why: impl fmt::Display) -> Error {
        Error::new(Status::BadKey, format!("{} '{}' {why}", self.what, shown(self.path)))
    }

    fn system(self, why: &str, error: &io::Error) -> Error {
        Error::system(Status::BadKey, format_args!("{} '{}' {why}", self.what, shown(self.path)), error)
    }
}

/// A file beside the one to be made, removed when dropped.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn new(folder: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".p2pmount-key-{}-{number}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Temporary { path, file }),
                // Left behind by a process of the same number that was cut off.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // The umask can have taken the owner's own rights away.
        self.file.set_permissions(fs::Permissions::from_mode(0o600))?;
        (&self.file).write_all(bytes)?;
        self.file.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Gives the file `from` the name `to` unless that is taken; says whether it did.
fn place(from: &Path, to: &Path) -> io::Result<bool> {
    let linked = match fs::hard_link(from, to) {
        // Not every file system has hard links (FAT, some of FUSE).
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => rename_no_replace(from, to).map_err(|_| e),
        linked => linked,
    };
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

fn shown(path: &Path) -> String {
    quote(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_without_a_folder_is_in_the_current_one() {
        let temporary = Temporary::new(Path::new(".")).unwrap();
        assert!(temporary.path.exists());
        let path = temporary.path.clone();
        drop(temporary);
        assert!(!path.exists());
    }

    #[test]
    fn no_way_of_placing_a_file_replaces_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("new"), "new").unwrap();
        fs::write(at("old"), "old").unwrap();
        assert!(!place(&at("new"), &at("old")).unwrap());
        assert_eq!(rename_no_replace(&at("new"), &at("old")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(at("old")).unwrap(), b"old");
        assert!(place(&at("new"), &at("linked")).unwrap());
        rename_no_replace(&at("new"), &at("renamed")).unwrap();
        assert_eq!(fs::read(at("renamed")).unwrap(), b"new");
    }
}
