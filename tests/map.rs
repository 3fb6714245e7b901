//! What the project says of itself is true: every path it names is there, every configuration it shows is read.

use std::fs;
use std::path::{Path, PathBuf};

use keyward::config;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The words of a page that stand between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_path_that_is_named_is_there() {
    let mut missing = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "fuzz/README.md"] {
        for word in quoted(&page(name)) {
            let is_path =
                ["src/", "tests/", "config/", "fuzz/", "benches/"].iter().any(|folder| word.starts_with(folder));
            let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && is_plain && !root().join(word).exists() {
                missing.push(format!("{name}: `{word}`"));
            }
        }
    }
    assert!(missing.is_empty(), "named but not there:\n  {}", missing.join("\n  "));
}

/// Where a test of this name could stand: the file of its module, or of one above that holds the module within it.
fn homes(modules: &[&str]) -> Vec<PathBuf> {
    let in_tests = root().join(format!("tests/{}.rs", modules[0])).exists()
        || root().join("tests").join(modules[0]).join("main.rs").exists();
    let base = root().join(if in_tests { "tests" } else { "src" });
    let upwards = (1..=modules.len()).rev();
    upwards
        .flat_map(|count| {
            let path = modules[..count].iter().fold(base.clone(), |path, module| path.join(module));
            [path.with_extension("rs"), path.join("main.rs"), path.join("mod.rs")]
        })
        .filter(|path| path.is_file())
        .take(1)
        .collect()
}

#[test]
fn every_test_that_the_threats_name_is_there() {
    let text = page("ARCHITECTURE.md");
    let threats = text.split("## Threats").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the chapter");
    let (mut named, mut missing) = (0, Vec::new());
    for name in quoted(threats).filter(|word| word.contains("::") && !word.ends_with(':')) {
        named += 1;
        let parts: Vec<_> = name.split("::").collect();
        let (test, modules) = parts.split_last().expect("a name");
        // A macro makes some of them, and is given the name.
        let spellings = [format!("fn {test}("), format!("!({test},"), format!("    {test},\n")];
        let is_there = |path: &PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            spellings.iter().any(|spelling| text.contains(spelling))
        };
        if !homes(modules).iter().any(is_there) {
            missing.push(name.to_owned());
        }
    }
    assert!(named > 80, "{named} tests are named");
    assert!(missing.is_empty(), "named among the threats but not there:\n  {}", missing.join("\n  "));
    let rows = threats.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule |"));
    for row in rows {
        assert!(quoted(row).any(|word| word.contains("::")), "no test shows it: {row}");
    }
}

#[test]
fn every_module_stands_on_the_map() {
    let map = page("ARCHITECTURE.md");
    let mut missing = Vec::new();
    for entry in fs::read_dir(root().join("src")).expect("the source").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let module = name.trim_end_matches(".rs");
        if !matches!(module, "lib" | "main") && !map.contains(&format!("`src/{module}")) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "not on the map in ARCHITECTURE.md: {missing:?}");
}

/// The blocks of a page in one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    text.split(opening.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_configurations_in_the_readme_are_read() {
    let env = |_: &str| Some("a-secret-of-the-environment".to_owned());
    let readme = page("README.md");
    let shown = blocks(&readme, "toml");
    // With the files that they name beside them.
    let home = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::create_dir(home.path().join("tls")).expect("a folder");
    fs::write(home.path().join("tls/cert.pem"), made.cert.pem()).expect("written");
    fs::write(home.path().join("tls/key.pem"), made.signing_key.serialize_pem()).expect("written");
    let origin = home.path().join("README.md");
    assert!(shown.len() >= 2, "the README shows a configuration and a key");
    for text in shown {
        if text.contains("[[keys]]") {
            let text = text.replace("sha256:...", &format!("sha256:{}", "ab".repeat(32)));
            config::parse_keys(&text, Path::new("README.md"), &env).unwrap_or_else(|faults| panic!("{faults}"));
        } else {
            let is_part = !text.contains("[[upstreams]]");
            let rest =
                if is_part { "[[upstreams]]\nname = \"s\"\ndialect = \"sandbox\"\nmodels = [\"*\"]\n" } else { "" };
            let text = format!("{text}{rest}");
            config::parse(&text, &origin, &env).unwrap_or_else(|faults| panic!("{faults}"));
        }
    }
}

#[test]
fn the_readme_lists_the_settings_of_a_key() {
    let readme = page("README.md");
    let policy = [
        "models_allowed",
        "endpoints_allowed",
        "rpm_limit",
        "tpm_limit",
        "max_parallel",
        "quota_limit",
        "quota_reset",
        "allowed_ips",
        "expires_at",
        "disabled",
        "previous",
        "is_sandbox",
        "on_disconnect",
    ];
    for setting in policy {
        assert!(config::key_setting_names().contains(&format!("keys[].{setting}")), "{setting} is not a setting");
        assert!(readme.contains(&format!("`{setting}`")), "the README does not say what {setting} is");
    }
}
