//! Whatever the fuzzer has kept, under the very checks it was found by: `fuzz/corpus/NAME` through `fuzz/src/NAME.rs`.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

/// Files a corpus may have, and bytes one of them and all together: what a clone and a test run can bear.
const MOST_FILES: usize = 300;
const LARGEST_FILE: u64 = 64 * 1024;
const MOST_BYTES: u64 = 1024 * 1024;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 17] = [
    ("addresses", targets::addresses::check),
    ("answer", targets::answer::check),
    ("config", targets::config::check),
    ("estimator", targets::estimator::check),
    ("events", targets::events::check),
    ("form", targets::form::check),
    ("frames", targets::frames::check),
    ("head", targets::head::check),
    ("journal", targets::journal::check),
    ("meter", targets::meter::check),
    ("moment", targets::moment::check),
    ("operator_body", targets::operator_body::check),
    ("proxy_protocol", targets::proxy_protocol::check),
    ("sandbox", targets::sandbox::check),
    ("scanner", targets::scanner::check),
    ("vendor_body", targets::vendor_body::check),
    ("websocket", targets::websocket::check),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(name: &str) -> Vec<PathBuf> {
    let folder = fuzz().join("corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Replays one corpus and names every file that fails.
fn replay(name: &str) {
    let (_, check) = TARGETS.into_iter().find(|(target, _)| *target == name).expect("a target of this name");
    let mut failed = Vec::new();
    for file in corpus(name) {
        let input = fs::read(&file).expect("a file of the corpus");
        if panic::catch_unwind(|| check(&input)).is_err() {
            failed.push(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    assert!(failed.is_empty(), "fuzz/corpus/{name}: these fail: {failed:?}");
}

macro_rules! replayed {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*
    };
}

replayed!(addresses answer config estimator events form frames head journal meter moment operator_body proxy_protocol sandbox scanner vendor_body websocket);

#[test]
fn every_target_has_a_corpus_of_bearable_size_and_is_replayed() {
    let mut stems = Vec::new();
    for entry in fs::read_dir(fuzz().join("fuzz_targets")).expect("the targets") {
        let path = entry.expect("an entry").path();
        stems.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    }
    stems.sort();
    assert_eq!(stems, TARGETS.map(|(name, _)| name), "a target is not replayed");
    for (name, _) in TARGETS {
        let files = corpus(name);
        let sizes: Vec<u64> = files.iter().map(|file| fs::metadata(file).expect("a file").len()).collect();
        let (count, bytes, largest) =
            (sizes.len(), sizes.iter().sum::<u64>(), sizes.iter().max().copied().unwrap_or(0));
        assert!((5..=MOST_FILES).contains(&count), "fuzz/corpus/{name} has {count} files; cargo fuzz cmin {name}");
        assert!(bytes <= MOST_BYTES && largest <= LARGEST_FILE, "fuzz/corpus/{name}: {bytes} bytes, largest {largest}");
    }
}
