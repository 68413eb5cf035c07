//! Private temporary folders, which only the current user can read and write.

use std::path::{Path, PathBuf};

/// Private temporary folders that exist or can be created, in order of preference: `morec-UID` in `TMPDIR` (or `/tmp`),
/// then in `/dev/shm`, which is writable in containers with a read-only file system. Empty if there is none.
pub(super) fn private_folders() -> Vec<PathBuf> {
    let bases = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
    bases.iter().filter(|b| b.is_dir()).filter_map(|b| claim(&b.join(name())).ok()).collect()
}

#[cfg(unix)]
fn name() -> String {
    format!("morec-{}", user_id())
}

#[cfg(unix)]
fn user_id() -> u32 {
    // SAFETY: takes no argument and cannot fail.
    unsafe { libc::geteuid() }
}

/// Creates the folder, or accepts an existing one that belongs to this user and that no other user can access. The
/// check is needed because any user can create a folder or symbolic link of that name in `/tmp`.
#[cfg(unix)]
fn claim(dir: &Path) -> std::io::Result<PathBuf> {
    use std::io::{Error, ErrorKind};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let found = std::fs::symlink_metadata(dir)?;
    match found.is_dir() && found.uid() == user_id() && found.mode() & 0o077 == 0 {
        true => Ok(dir.into()),
        false => Err(Error::new(ErrorKind::PermissionDenied, "not a folder of this user alone")),
    }
}

#[cfg(not(unix))]
fn name() -> String {
    "morec".into()
}

/// Creates the folder; on systems other than Unix the temporary folder is already private to the user.
#[cfg(not(unix))]
fn claim(dir: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(dir).map(|()| dir.into())
}

#[cfg(all(test, unix))]
mod tests {
    use super::claim;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_folder_that_nobody_else_can_enter_is_taken() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |n: &str| tmp.path().join(n);
        claim(&at("new")).unwrap();
        claim(&at("new")).unwrap();
        assert_eq!(std::fs::metadata(at("new")).unwrap().permissions().mode() & 0o777, 0o700);
        symlink(at("new"), at("link")).unwrap();
        std::fs::create_dir(at("open")).unwrap();
        std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        for taken in ["link", "open", "file", "missing/below"] {
            assert!(claim(&at(taken)).is_err(), "{taken}");
        }
    }
}
