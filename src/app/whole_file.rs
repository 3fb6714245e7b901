//! Small files that are replaced whole: who reads one finds what it was or what it is, whenever the program that writes it ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts `text` in the place of whatever `path` holds, with these permissions at most; on the disk when it returns. What is written beside it meanwhile
/// bears a name that no other process gives, and nothing that stands under that name is written through.
///
/// # Errors
/// The disk does not take it; `path` holds what it did.
pub fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let beside = path.with_added_extension(format!("{}.new", std::process::id()));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        // One that an earlier process of this number has left.
        _ => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        let _may_not_be_there = fs::remove_file(&beside);
        return Err(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_and_what_stands_beside_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other, beside] = ["ready.json", "ready.new", "elsewhere"].map(|name| folder.path().join(name));
        fs::write(&path, "before").unwrap();
        fs::write(&other, "another's").unwrap();
        symlink(&beside, path.with_added_extension(format!("{}.new", std::process::id()))).unwrap();
        replace(&path, "after", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((fs::read(&other).unwrap(), beside.exists()), (b"another's".to_vec(), false));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing is left of the writing");
    }

    #[test]
    fn what_cannot_take_its_place_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-folder");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, "text", 0o644).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
