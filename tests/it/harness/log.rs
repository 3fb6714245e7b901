//! What the proxy writes down, of all tests in this process: the text of its log, and each access line by its request id.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{Debug, Write as _};
use std::sync::{LazyLock, Mutex, Once};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

/// One access line, by the names of its fields.
pub type Line = HashMap<String, String>;

static ACCESS: LazyLock<Mutex<HashMap<String, Vec<Line>>>> = LazyLock::new(Mutex::default);
static TEXT: Mutex<String> = Mutex::new(String::new());
static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static LEAKED: Mutex<Vec<String>> = Mutex::new(Vec::new());
static INSTALLED: Once = Once::new();

/// Begins to write down; once for the whole process.
pub fn install() {
    INSTALLED.call_once(|| {
        let wanted = "keyward=trace,access=info".parse::<Targets>().expect("levels by target");
        let subscriber = Registry::default().with(Keep.with_filter(wanted));
        // A test program that brings a subscriber of its own keeps it.
        let _ = tracing::subscriber::set_global_default(subscriber);
    });
}

/// Looks for the secrets of these files in every line from now on: of keys, of upstreams, of operators.
pub fn watch_for_secrets(files: &[&str]) {
    let lines = files.iter().flat_map(|text| text.lines());
    let values = lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
        (["key", "api_key", "token", "pepper"].contains(&name.trim()) && value.len() >= 8).then(|| value.to_owned())
    });
    SECRETS.lock().unwrap().extend(values);
}

/// Whether a secret that is watched for stands in this.
pub fn holds_a_secret(text: &str) -> bool {
    SECRETS.lock().unwrap().iter().any(|secret| text.contains(secret.as_str()))
}

/// Every line so far in which a secret stood that was watched for.
pub fn leaked() -> Vec<String> {
    LEAKED.lock().unwrap().clone()
}

/// The one access line of a request, once it is written.
pub async fn access(request_id: &str) -> Line {
    for _ in 0..2_000 {
        let lines = ACCESS.lock().unwrap().get(request_id).cloned().unwrap_or_default();
        if let Some(line) = lines.first() {
            assert_eq!(lines.len(), 1, "a request has one line");
            return line.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no access line for {request_id}");
}

/// Whether the access line of a request is written.
pub fn has_access(request_id: &str) -> bool {
    ACCESS.lock().unwrap().contains_key(request_id)
}

/// Everything written so far.
pub fn text() -> String {
    TEXT.lock().unwrap().clone()
}

struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let target = event.metadata().target();
        let mut line = format!("{} {target}", event.metadata().level());
        for (name, value) in &fields.0 {
            let _ = write!(line, " {name}={value}");
        }
        if holds_a_secret(&line) {
            LEAKED.lock().unwrap().push(line.clone());
        }
        line.push('\n');
        TEXT.lock().unwrap().push_str(&line);
        if target == "access" {
            let id = fields.0.get("request_id").cloned().unwrap_or_default();
            ACCESS.lock().unwrap().entry(id).or_default().push(fields.0);
        }
    }
}

#[derive(Default)]
struct Fields(Line);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
