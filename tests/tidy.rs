//! The laws of the house, as tests: who may import whom, how long a file and a function may be, what must not stand in the source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;

/// Low to high; modules of one rank do not import each other.
const RANKS: &[&[&str]] = &[
    &["units", "clock", "headers"],
    &["policy"],
    &["dialect", "limits"],
    &["keys"],
    &["admission"],
    &["background", "spare", "turn", "socket", "listen", "telemetry", "tls", "store", "ledger", "upstream"],
    &["proxy", "admin"],
    &["config"],
    &["app"],
    &["cli", "allocator"],
];

/// Of one rank, and allowed all the same: upstream and ledger speak of what they do through telemetry and store.
const SAME_RANK: &[(&str, &str)] = &[
    ("clock", "units"),
    ("upstream", "telemetry"),
    ("ledger", "store"),
    ("ledger", "telemetry"),
    ("store", "telemetry"),
    ("store", "background"),
    ("ledger", "background"),
    ("store", "spare"),
    ("ledger", "spare"),
    ("upstream", "turn"),
    ("upstream", "socket"),
    ("listen", "socket"),
];

/// Higher modules do not reach past their neighbours: `proxy` never names `store`; only `app` and `cli` import `config`.
const NEVER: &[(&str, &str)] = &[("proxy", "store"), ("proxy", "admin"), ("admin", "proxy")];

const CORE: &[&str] = &["units", "clock", "headers", "policy", "dialect", "limits", "keys", "admission"];
const NOT_IN_CORE: &[&str] = &[
    "async fn",
    ".await",
    "hyper::",
    "tokio::",
    "tracing::",
    "std::fs",
    "std::net::Tcp",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "reqwest",
    "println!",
    "eprintln!",
];

const BANNED_NAMES: &[&str] =
    &["manager", "handler", "context", "utils", "util", "helpers", "helper", "common", "types"];

const BANNED_MARKS: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore", "#[allow(", "#![allow(", "FIXME", "XXX"];

/// Words of where and how this was made, which the project never speaks of.
const FOREIGN_WORDS: &[&str] = &["/work/", "subagent", "this session"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !matches!(path.file_name().and_then(|n| n.to_str()), Some("target" | "node_modules" | "corpus")) {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            found.push((name, text));
        }
    }
}

/// The source without comments, strings and `#[cfg(test)]` modules, as far as a line reader can tell.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut in_tests = false;
    for line in text.lines() {
        if line.trim_start().starts_with("#[cfg(test)]") && line.starts_with('#') {
            in_tests = true;
        }
        if in_tests {
            // A test module at the end of a file runs to its closing brace at the margin; a test submodule is one line.
            if line.starts_with('}') || (line.starts_with("mod ") && line.ends_with(';')) {
                in_tests = false;
            }
            continue;
        }
        let bare = line.split("//").next().unwrap_or_default();
        code.push_str(bare);
        code.push('\n');
    }
    code
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/") || name.starts_with("tests/")
}

fn module_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("src/")?;
    Some(rest.split(['/', '.']).next().unwrap_or(rest))
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&module))
}

#[track_caller]
fn none(broken: Vec<String>, law: &str) {
    assert!(broken.is_empty(), "{law}\n  {}", broken.join("\n  "));
}

#[test]
fn modules_import_only_what_is_below_them() {
    let mut broken = Vec::new();
    for (name, text) in rust_files("src") {
        let Some(importer) = module_of(&name) else { continue };
        let Some(own) = rank(importer) else {
            if !matches!(importer, "lib" | "main") {
                broken.push(format!("{name}: module {importer} has no rank; add it to RANKS where it belongs"));
            }
            continue;
        };
        if is_test_file(&name) {
            continue;
        }
        for (number, line) in code_of(&text).lines().enumerate() {
            for part in line.split("crate::").skip(1) {
                let imported = part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                let Some(other) = rank(imported) else { continue };
                let is_fine = imported == importer
                    || other < own && !NEVER.contains(&(importer, imported))
                    || SAME_RANK.contains(&(importer, imported));
                if !is_fine {
                    broken.push(format!("{name}:{}: {importer} imports {imported}", number + 1));
                }
            }
        }
    }
    none(
        broken,
        "the import law (low to high, see RANKS): move the thing imported to a lower module, or the importer up",
    );
}

#[test]
fn the_core_neither_waits_nor_speaks() {
    let mut broken = Vec::new();
    for (name, text) in rust_files("src") {
        if !module_of(&name).is_some_and(|module| CORE.contains(&module)) || is_test_file(&name) {
            continue;
        }
        for (number, line) in code_of(&text).lines().enumerate() {
            for word in NOT_IN_CORE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{name}:{}: `{word}` in the core", number + 1));
            }
        }
    }
    none(broken, "the core decides without await, clock or I/O: move this into the shell and hand its result in");
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let mut broken = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets", "fuzz/src"] {
        for (name, text) in rust_files(folder) {
            let first = text.lines().next().unwrap_or_default();
            if !first.starts_with("//! ") && !first.starts_with("#![") {
                broken.push(format!("{name}: starts without a `//!` line that says what it is"));
            }
            let lines = text.lines().count();
            if lines > MAX_FILE_LINES {
                broken.push(format!("{name}: {lines} lines; at most {MAX_FILE_LINES}: a file is one concept"));
            }
        }
    }
    none(broken, "file headers and sizes");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut broken = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/src"] {
        for (name, text) in rust_files(folder) {
            let lines = text.lines().collect::<Vec<_>>();
            for (start, line) in lines.iter().enumerate() {
                let bare = line.trim_start();
                let is_function = [
                    "fn ",
                    "pub fn ",
                    "pub(crate) fn ",
                    "pub(super) fn ",
                    "async fn ",
                    "pub async fn ",
                    "const fn ",
                    "pub const fn ",
                ]
                .iter()
                .any(|head| bare.starts_with(head));
                // A trait's declaration ends on its line: it has no body to measure.
                if !is_function || bare.ends_with(';') {
                    continue;
                }
                let closing = format!("{}}}", &line[..line.len() - bare.len()]);
                let length = lines[start..].iter().position(|l| **l == closing).map_or(0, |n| n + 1);
                if length > MAX_FUNCTION_LINES {
                    broken.push(format!("{name}:{}: {length} lines; at most {MAX_FUNCTION_LINES}", start + 1));
                }
            }
        }
    }
    none(broken, "function sizes");
}

#[test]
fn names_are_the_fields_own() {
    let mut broken = Vec::new();
    for (name, _) in rust_files("src") {
        let parts = name.trim_end_matches(".rs").split('/');
        for part in parts.filter(|part| BANNED_NAMES.contains(part)) {
            broken.push(format!("{name}: `{part}` says nothing; name the concept"));
        }
    }
    none(broken, "file names");
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    let mut broken = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets", "fuzz/src"] {
        for (name, text) in rust_files(folder) {
            if name == "tests/tidy.rs" {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                for mark in BANNED_MARKS.iter().chain(FOREIGN_WORDS).filter(|mark| line.contains(**mark)) {
                    broken.push(format!("{name}:{}: `{mark}`", number + 1));
                }
            }
        }
    }
    none(broken, "marks that must not land");
}

#[test]
fn unsafe_stands_in_modules_of_its_own() {
    let mut broken = Vec::new();
    for (name, text) in rust_files("src") {
        let lines = text.lines().collect::<Vec<_>>();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let is_unsafe = code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl");
            if is_unsafe && !lines[at.saturating_sub(3)..at].iter().any(|above| above.contains("SAFETY:")) {
                broken.push(format!("{name}:{}: without `// SAFETY:`", at + 1));
            }
        }
    }
    none(broken, "unsafe");
}

#[test]
fn the_lock_file_holds_the_floors_of_security_fixes() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is part of the project");
    let mut versions = BTreeMap::<String, Vec<Vec<u64>>>::new();
    let mut name = String::new();
    for line in lock.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"').to_owned();
        } else if let Some(value) = line.strip_prefix("version = ") {
            let core = value.trim_matches('"').split(['-', '+']).next().unwrap_or_default();
            let parts = core.split('.').map(|part| part.parse().unwrap_or(0)).collect();
            versions.entry(name.clone()).or_default().push(parts);
        }
    }
    let floors: [(&str, [u64; 3]); 4] =
        [("hyper", [1, 11, 0]), ("h2", [0, 4, 20]), ("rustls", [0, 23, 45]), ("rustls-webpki", [0, 103, 15])];
    let mut broken = Vec::new();
    for (package, floor) in floors {
        for version in versions.get(package).into_iter().flatten().filter(|version| version.as_slice() < &floor[..]) {
            broken.push(format!("{package} {version:?} is below {floor:?}"));
        }
    }
    for package in ["openssl-sys"] {
        if versions.contains_key(package) {
            broken.push(format!("{package} has come into the tree"));
        }
    }
    none(broken, "security floors (SECURITY: supply chain)");
}
