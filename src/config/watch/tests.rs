//! Every way a file is changed in the field.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// Far more than a second, so that a loaded machine does not fail the test; it is waited for only when it fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Watched {
    directory: tempfile::TempDir,
    changes: Receiver<()>,
    guard: WatchGuard,
}

/// Watches `keys.toml` in a new directory, after `prepare` has laid it out.
fn watched(prepare: impl FnOnce(&Path)) -> Watched {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let (sender, changes) = channel();
    let guard = watch(look([directory.path().join("keys.toml")]), move || sender.send(()).unwrap()).unwrap();
    Watched { directory, changes, guard }
}

impl Watched {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn must_see(&self, what: &str) {
        assert_eq!(self.changes.recv_timeout(PATIENCE), Ok(()), "{what}");
    }
}

fn plain(directory: &Path) {
    fs::write(directory.join("keys.toml"), "one").unwrap();
}

/// As the kubelet lays out a mounted config map.
fn config_map(directory: &Path) {
    fs::create_dir(directory.join("..v1")).unwrap();
    fs::write(directory.join("..v1/keys.toml"), "one").unwrap();
    symlink("..v1", directory.join("..data")).unwrap();
    symlink("..data/keys.toml", directory.join("keys.toml")).unwrap();
}

fn swap(watched: &Watched, version: &str, content: &str) {
    fs::create_dir(watched.path(version)).unwrap();
    fs::write(watched.path(version).join("keys.toml"), content).unwrap();
    symlink(version, watched.path("..data_tmp")).unwrap();
    fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
}

#[test]
fn a_rewrite_in_place_is_seen_each_time() {
    let watched = watched(plain);
    for content in ["two", "three", "four"] {
        fs::write(watched.path("keys.toml"), content).unwrap();
        watched.must_see(content);
    }
}

#[test]
fn a_large_file_that_is_rewritten_at_once_is_seen_each_time() {
    let watched = watched(|directory| fs::write(directory.join("keys.toml"), vec![b'1'; 2 << 20]).unwrap());
    for byte in b"2345" {
        fs::write(watched.path("keys.toml"), vec![*byte; 2 << 20]).unwrap();
        watched.must_see("as long as before");
    }
}

#[test]
fn a_large_file_is_read_again_unless_an_old_stamp_says_that_it_is_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    for (bytes, is_settled, is_read) in [(2 << 20, true, false), (2 << 20, false, true), (2, true, true)] {
        fs::write(&path, vec![b'1'; bytes]).unwrap();
        let seen = Content { sha256: Some([7; 32]), stamp: stamp(&path), is_settled };
        assert_eq!(seen.again(&path).sha256 != seen.sha256, is_read, "{bytes} {is_settled}");
        let other = Content { stamp: None, ..seen };
        assert_ne!(other.again(&path).sha256, other.sha256, "another stamp");
    }
    assert!(!Content::of(&path).is_settled, "it was written this moment");
}

#[test]
fn an_editors_rename_over_the_file_is_seen_each_time() {
    let watched = watched(plain);
    for content in ["two", "three", "four"] {
        fs::write(watched.path("keys.toml.swp"), content).unwrap();
        fs::rename(watched.path("keys.toml.swp"), watched.path("keys.toml")).unwrap();
        watched.must_see(content);
    }
}

#[test]
fn the_swap_of_a_mounted_config_map_is_seen_each_time() {
    let watched = watched(config_map);
    for (version, before) in [("..v2", "..v1"), ("..v3", "..v2"), ("..v4", "..v3")] {
        swap(&watched, version, version);
        fs::remove_dir_all(watched.path(before)).unwrap();
        watched.must_see(version);
    }
}

#[test]
fn a_write_behind_the_links_is_seen() {
    let watched = watched(config_map);
    fs::write(watched.path("..v1/keys.toml"), "two").unwrap();
    watched.must_see("write");
}

#[test]
fn a_file_that_goes_and_comes_back_is_seen_both_times() {
    let watched = watched(plain);
    fs::remove_file(watched.path("keys.toml")).unwrap();
    watched.must_see("removal");
    fs::write(watched.path("keys.toml"), "one").unwrap();
    watched.must_see("return");
}

#[test]
fn a_directory_that_is_made_anew_is_watched_again() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    plain(&inner);
    let (sender, changes) = channel();
    let _guard = watch(look([inner.join("keys.toml")]), move || sender.send(()).unwrap()).unwrap();
    fs::remove_dir_all(&inner).unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(()), "removal");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("keys.toml"), "two").unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(()), "return");
    fs::write(inner.join("keys.toml"), "three").unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(()), "write");
}

#[test]
fn the_same_content_written_again_is_no_change() {
    let watched = watched(config_map);
    swap(&watched, "..v2", "one");
    swap(&watched, "..v3", "two");
    watched.must_see("the one change");
    drop(watched.guard);
    assert!(watched.changes.try_recv().is_err());
}

#[test]
fn without_a_watcher_looking_finds_it() {
    let directory = tempfile::tempdir().unwrap();
    plain(directory.path());
    let path = directory.path().join("keys.toml");
    let seen = vec![Content::of(&path)];
    let mut look = Look { paths: vec![path.clone()], hints: None, seen };
    look.follow();
    let (orders, signals) = signals::pair().unwrap();
    let (sender, changes) = channel();
    let thread = std::thread::spawn(move || run(&mut look, &signals, &|| sender.send(()).unwrap()));
    fs::write(&path, "two").unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(()));
    orders.send(Signal::Stop);
    thread.join().unwrap();
}

#[test]
fn every_link_on_the_way_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    config_map(&root);
    let mut found = BTreeSet::new();
    directories(&root.join("keys.toml"), &mut found);
    assert_eq!(found, BTreeSet::from([root.clone(), root.join("..v1")]));

    symlink("loop", root.join("loop")).unwrap();
    let mut found = BTreeSet::new();
    directories(&root.join("loop"), &mut found);
    assert_eq!(found, BTreeSet::from([root.clone()]));

    let mut found = BTreeSet::new();
    directories(&root.join("not/there/keys.toml"), &mut found);
    assert_eq!(found, BTreeSet::from([root]));
}

/// A file may name anything.
#[test]
#[cfg(target_os = "linux")]
fn what_has_no_end_and_what_nobody_writes_to_is_looked_at_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let pipe = home.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let odd =
        ["/dev/zero", "/dev/full", "/proc/self/pagemap", "/proc/self/mem", "/proc/kmsg", "/", "."].map(PathBuf::from);
    let seen = look(odd.into_iter().chain([pipe]));
    assert_eq!(seen.0.len(), 8);
}

#[test]
fn nothing_is_called_after_the_guard_is_dropped() {
    let Watched { directory, changes, guard } = watched(plain);
    drop(guard);
    fs::write(directory.path().join("keys.toml"), "two").unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_change_between_the_look_and_the_watch_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    plain(directory.path());
    let path = directory.path().join("keys.toml");
    let seen = look([path.clone()]);
    fs::write(&path, "two").unwrap();
    let (sender, changes) = channel();
    let _guard = watch(seen, move || sender.send(()).unwrap()).unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(()));
}

#[test]
fn other_files_can_be_watched_from_then_on() {
    let Watched { directory, changes, guard } = watched(plain);
    let other = directory.path().join("other.toml");
    fs::write(&other, "one").unwrap();
    guard.follow(vec![other.clone()]);
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(()), "nobody knows what it was before");
    fs::write(directory.path().join("keys.toml"), "no longer watched").unwrap();
    fs::write(&other, "two").unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(()));
    drop(guard);
    assert!(changes.try_recv().is_err(), "one change, told once");
}

#[test]
fn writes_that_go_on_beside_the_files_wake_nobody() {
    use std::io::Write;

    let directory = tempfile::tempdir().unwrap();
    let mut database = fs::File::create(directory.path().join("keyward.db-wal")).unwrap();
    let mut hints = Hints::new().unwrap();
    hints.follow(&BTreeSet::from([directory.path().to_owned()]));
    for _ in 0..100 {
        database.write_all(&[0; 4_096]).unwrap();
        database.sync_data().unwrap();
        let _ = fs::read(directory.path().join("keyward.db-wal")).unwrap();
    }
    assert!(!hints.take());
    drop(database);
    assert!(hints.take(), "written and closed");
}

#[test]
fn a_directory_that_two_paths_lead_to_is_watched_until_none_does() {
    let directory = tempfile::tempdir().unwrap();
    let (real, other) = (directory.path().join("real"), directory.path().join("other"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &other).unwrap();
    let mut hints = Hints::new().unwrap();
    hints.follow(&BTreeSet::from([real.clone(), other.clone()]));
    hints.follow(&BTreeSet::from([other]));
    plain(&real);
    assert!(hints.take(), "one of the two is left");
    hints.follow(&BTreeSet::new());
    plain(&real);
    assert!(!hints.take());
}

#[test]
fn what_is_told_while_nobody_waits_is_heard_in_its_order() {
    let (orders, signals) = signals::pair().unwrap();
    for _ in 0..200 {
        orders.send(Signal::Touched);
    }
    orders.send(Signal::Follow(Vec::new()));
    assert!((0..200).all(|_| matches!(signals.next(None, PATIENCE), Some(Signal::Touched))));
    assert!(matches!(signals.next(None, PATIENCE), Some(Signal::Follow(_))));
    assert!(signals.next(None, Duration::from_millis(1)).is_none());
    drop(orders);
    assert!(matches!(signals.next(None, PATIENCE), Some(Signal::Stop)), "nobody is left to say anything");
}
