//! The README's chapter for operators, done as it stands there.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::Client;
use crate::harness::program::command;
use crate::harness::{chat, post};

/// The shell lines of the README that are marked with `mark`.
fn lines(mark: &str) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let opening = format!("```sh {mark}\n");
    let blocks = readme.split(opening.as_str()).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Two ports that nobody listens on. None of those that the system gives to whoever asks for any: another test could have one before it is
/// listened on here.
fn free_ports() -> [u16; 2] {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|first| first.parse::<u16>().ok()).unwrap_or(32_768);
    // Two runs at once begin at different places.
    let skipped = std::process::id() as usize % usize::from(end - 1_024);
    let mut all = (1_024..end).cycle().skip(skipped).take(usize::from(end));
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    [(); 2].map(|()| all.find(is_free).expect("a free port"))
}

/// A shell in `home` in which `keyward` is the program.
fn shell(home: &Path, admin: u16) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_keyward"));
    let folder = program.parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.env("PATH", format!("{folder}:{path}")).current_dir(home);
    shell.env("KEYWARD_ADMIN_URL", format!("http://127.0.0.1:{admin}")).env("KEYWARD_LOG", "warn");
    shell
}

/// Runs `script`, which must go well to its last line.
fn run(home: &Path, admin: u16, script: &str) -> String {
    // Into a file: a pipe would be held open by what the script leaves running.
    let (path, file) = (home.join("told"), || fs::OpenOptions::new().append(true).open(home.join("told")));
    fs::write(&path, "").expect("written");
    let mut shell = shell(home, admin);
    shell.stdout(file().expect("a file")).stderr(file().expect("a file"));
    let status = shell.args(["-e", "-c", script]).status().expect("a shell");
    let told = fs::read_to_string(&path).expect("text");
    assert!(status.success(), "{script}\n{told}");
    told
}

fn configure(home: &Path, data: u16, admin: u16) {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:{data}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[[upstreams]]\nname = \"sandbox\"\ndialect = \"sandbox\"\nmodels = [\"*\"]\n"
    );
    fs::write(home.join("keyward.toml"), config).expect("written");
}

/// A program that some script left running, ended when dropped.
struct Left(u32);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).stderr(Stdio::null()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chapter_for_operators_works_as_it_is_printed() {
    let home = tempfile::tempdir().expect("a directory");
    let (home, [data, admin]) = (home.path(), free_ports());
    configure(home, data, admin);
    let blocks = lines("operate");
    assert_eq!(blocks.len(), 5, "first start, a key, its rotation, what it spent, a copy");
    // One shell for all of them, as an operator has one terminal; the program's own number is told at the start.
    let first = blocks[0].replacen("first-start.txt &\n", "first-start.txt &\necho $! > pid\n", 1);
    run(home, admin, &first);
    let _left = Left(fs::read_to_string(home.join("pid")).expect("a number").trim().parse().expect("a number"));
    let login = "export KEYWARD_ADMIN_TOKEN=$(cat first-start.txt)\n";
    let made = run(home, admin, &format!("{login}{}", blocks[1]));
    assert!(made.contains("demo") && made.contains("gpt-4o*") && made.contains("60"), "{made}");
    let secret = made.split_whitespace().find(|word| word.starts_with("sk-kw-") && word.len() == 55).expect("a secret");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], data));
    let answer = Client::once(address, &post("/v1/chat/completions", secret, &chat("gpt-4o", false))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let rotated = run(home, admin, &format!("{login}{}", blocks[2]));
    assert!(rotated.contains("old_secret"), "{rotated}");
    let spent = run(home, admin, &format!("{login}{}", blocks[3]));
    assert!(spent.contains("gpt-4o") && spent.contains("the books agree"), "{spent}");
    assert!(spent.contains("REQUEST ID") || spent.contains("still in the journals"), "{spent}");
    run(home, admin, &format!("{login}{}", blocks[4]));

    // What happens after the copy is lost by putting it back; what was before is there.
    run(home, admin, &format!("{login}keyward key delete demo --yes"));
    let refused = shell(home, admin).args(["-e", "-c", &lines("restore")[0]]).output().expect("a shell");
    assert_eq!(refused.status.code(), Some(1), "not while the program runs");
    run(home, admin, "kill $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.05; done");
    run(home, admin, &lines("restore")[0]);
    let mut child = serve(home);
    run(home, admin, "keyward healthcheck --wait 20s");
    let shown = run(
        home,
        admin,
        &format!("{login}keyward key show demo --json && keyward ledger verify --config keyward.toml"),
    );
    assert!(shown.contains(r#""name":"demo""#) && shown.contains("the books agree"), "{shown}");
    child.kill().expect("ended");
    child.wait().expect("ended");
}

fn serve(home: &Path) -> Child {
    command(home, &["serve", "--config", "keyward.toml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program")
}

#[test]
fn another_pepper_is_told_at_the_start_instead_of_refusing_everybody() {
    let home = tempfile::tempdir().expect("a directory");
    configure(home.path(), 0, 0);
    let start = || {
        let mut child = command(home.path(), &["serve", "--config", "keyward.toml", "--ready-file", "ready"])
            .env("KEYWARD_LOG", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        while child.try_wait().expect("a child").is_none() && !home.path().join("ready").exists() {
            std::thread::yield_now();
        }
        let _ = fs::remove_file(home.path().join("ready"));
        child
    };
    let mut first = start();
    first.kill().expect("ended");
    first.wait().expect("ended");
    fs::write(home.path().join("data/pepper"), "another pepper altogether").expect("written");
    let mut second = start();
    let mut told = String::new();
    second.stderr.take().expect("its words").read_to_string(&mut told).expect("text");
    assert_eq!(second.wait().expect("ended").code(), Some(2));
    assert!(told.contains("another pepper") && told.contains("keyward.db"), "{told}");
}
