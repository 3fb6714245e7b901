//! `keyward ledger records`: what the ledger holds of single requests.

use std::collections::VecDeque;
use std::path::PathBuf;

use clap::Args;
use serde::Serializer as _;
use serde_json::Value;
use uuid::Uuid;

use super::configured;
use crate::admin::native::csv;
use crate::admin::times::rfc3339;
use crate::app::records::{Asked, Reading};
use crate::cli::failure::Failure;
use crate::cli::key::resolve::{Sought, is_no_secret};
use crate::cli::moment::now;
use crate::cli::output::{Column, Grid, Screen, second_of, text_of, write};
use crate::cli::usage::{figure, period};
use crate::cli::{OK, code};
use crate::ledger::Entry;
use crate::store::Settings;
use crate::units::KeyId;

pub const EXAMPLES: &str = "\
Examples:
  keyward ledger records --config keyward.toml --key demo --from 1h
  keyward ledger records --config keyward.toml --from 30d --json > month.jsonl

Reads the store, whether or not the program runs. A request has a record when it was answered or was to be; what was refused is only counted \
(keyward usage). Records are kept as long as [storage] records_kept says.";

/// How far back is looked when nobody says.
const DAY_MS: i64 = 86_400_000;

/// Lines of a table when nobody says.
const LINES: u32 = 50;

#[derive(Debug, Args)]
pub struct Records {
    /// The configuration file.
    #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Only of this key: an id, the beginning of one, or an exact name. A key that is gone is named by its whole id.
    #[arg(long)]
    key: Option<String>,
    /// From when: 7d (ago), a date (its first moment, UTC), or an RFC 3339 moment. Without it a day before --to, or before now.
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Up to when, written the same way.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// Only the newest; without it 50 in a table, and all of them as JSON or CSV.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
    /// Print JSON, one object to a line.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
}

impl Records {
    /// Prints them; the exit code.
    pub fn run(&self) -> u8 {
        match configured(&self.config) {
            Ok(storage) => code(self.print(&storage).map(|()| OK)),
            Err(code) => code,
        }
    }

    fn print(&self, storage: &Settings) -> Result<(), Failure> {
        let (from_ms, to_ms) = self.time()?;
        let reading = Reading::open(storage)?;
        let key = self.key.as_deref().map(|named| id_of(&reading, named)).transpose()?;
        let limit = self.limit.or_else(|| (!self.json && !self.csv).then_some(LINES));
        let most = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let (mut newest, mut count) = (VecDeque::new(), 0_u64);
        if self.csv {
            write(&head())?;
        }
        for page in reading.pages(Asked { from_ms, to_ms, key }) {
            let page = page?;
            count += page.len() as u64;
            match most {
                Some(most) => {
                    newest.extend(page);
                    newest.drain(..newest.len().saturating_sub(most));
                }
                None => write(&self.text(&page))?,
            }
        }
        let shown = newest.len() as u64;
        if shown > 0 {
            write(&self.text(newest.make_contiguous()))?;
        }
        self.remark(shown, count, reading.pending);
        Ok(())
    }

    /// What else there is, on standard error.
    fn remark(&self, shown: u64, count: u64, pending: u64) {
        let is_table = !self.json && !self.csv;
        if count == 0 {
            eprintln!("there is no such record; [storage] records_kept says how long records are kept");
        } else if is_table && shown < count {
            eprintln!("the newest {shown} of {count} record(s); --limit shows more of them, --json and --csv all");
        } else if is_table {
            eprintln!("{count} record(s)");
        }
        if pending > 0 {
            eprintln!(
                "up to {pending} more are still in the journals: a running program brings them into the store within a moment, a killed one \
                at its next start"
            );
        }
    }

    fn time(&self) -> Result<(i64, i64), Failure> {
        let (from, to) = period(self.from.as_deref(), self.to.as_deref())?;
        let (from, to) = (from.map(|from| from.as_millisecond()), to.map(|to| to.as_millisecond()));
        let day_before = || to.unwrap_or(now().as_millisecond()).saturating_sub(DAY_MS);
        // What a clock set back has left in the future is there as well, if nobody says up to when.
        Ok((from.unwrap_or_else(day_before), to.unwrap_or(i64::MAX)))
    }

    fn text(&self, entries: &[Entry]) -> String {
        if self.json {
            entries.iter().map(line).collect()
        } else if self.csv {
            entries.iter().map(row).collect()
        } else {
            drawn(entries, Screen::stdout())
        }
    }
}

/// The id of the key that `named` means.
fn id_of(reading: &Reading, named: &str) -> Result<KeyId, Failure> {
    if let Ok(id) = Uuid::parse_str(named) {
        return Ok(KeyId(id));
    }
    is_no_secret(named)?;
    let mut sought = Sought::new(named);
    reading.each_key(&mut |id, name| sought.look(&id.to_string(), name))?;
    let id = sought.id()?;
    Uuid::parse_str(&id).map(KeyId).map_err(|error| Failure::Failed(format!("{id}: {error}")))
}

/// What is shown of a record.
struct Member {
    name: &'static str,
    /// Above its column of a table.
    column: Column,
    /// A table in which nothing else stands has no such column.
    usual: &'static str,
    of: fn(&Entry) -> Value,
}

const fn text(
    name: &'static str,
    head: &'static str,
    rank: u8,
    usual: &'static str,
    of: fn(&Entry) -> Value,
) -> Member {
    Member { name, column: Column::text(head, rank), usual, of }
}

const fn number(
    name: &'static str,
    head: &'static str,
    rank: u8,
    usual: &'static str,
    of: fn(&Entry) -> Value,
) -> Member {
    Member { name, column: Column::number(head, rank), usual, of }
}

/// In this order. No secret, and nothing of the digest of one.
static MEMBERS: [Member; 20] = [
    text("at", "AT", 0, "", |entry| rfc3339(entry.at_unix_ms).into()),
    text("request_id", "REQUEST ID", 8, "", |entry| named(&entry.request_id)),
    text("key_id", "KEY", 0, "", |entry| entry.key.to_string().into()),
    text("dialect", "DIALECT", 14, "", |entry| entry.dialect.as_str().into()),
    text("endpoint", "ENDPOINT", 13, "", |entry| entry.endpoint.as_str().into()),
    text("model", "MODEL", 1, "-", |entry| named(&entry.model)),
    text("outcome", "OUTCOME", 6, "", |entry| entry.outcome.as_str().into()),
    text("reason", "REASON", 7, "-", |entry| named(&entry.reason)),
    number("status", "STATUS", 2, "", |entry| match entry.status {
        0 => Value::Null,
        status => status.into(),
    }),
    number("requests", "REQUESTS", 12, "1", |entry| entry.requests.into()),
    number("input_tokens", "INPUT", 3, "", |entry| entry.usage.input.into()),
    number("cached_input_tokens", "CACHED", 15, "0", |entry| entry.usage.cached_input.into()),
    number("cache_write_tokens", "CACHE WRITE", 16, "0", |entry| entry.usage.cache_write.into()),
    number("output_tokens", "OUTPUT", 4, "", |entry| entry.usage.output.into()),
    number("reasoning_tokens", "REASONING", 17, "0", |entry| entry.usage.reasoning.into()),
    text("estimated", "ESTIMATED", 11, "no", |entry| entry.usage.estimated.into()),
    number("audio_ms", "AUDIO MS", 18, "0", |entry| entry.usage.audio_ms.into()),
    number("units", "UNITS", 5, "", |entry| entry.units.into()),
    number("first_byte_ms", "FIRST BYTE MS", 10, "-", |entry| match entry.first_byte_us {
        0 => Value::Null,
        us => milliseconds(us),
    }),
    number("duration_ms", "WHOLE MS", 9, "", |entry| milliseconds(entry.duration_us)),
];

/// A text, unless there is none.
fn named(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn milliseconds(us: u64) -> Value {
    (us as f64 / 1000.0).into()
}

/// One object, on a line of its own.
fn line(entry: &Entry) -> String {
    let mut line = Vec::with_capacity(512);
    let members = MEMBERS.iter().map(|member| (member.name, (member.of)(entry)));
    // Nothing of it can fail to be JSON, and memory takes all.
    let _ = serde_json::Serializer::new(&mut line).collect_map(members);
    line.push(b'\n');
    String::from_utf8(line).unwrap_or_default()
}

/// The first line of CSV.
fn head() -> String {
    let names = MEMBERS.iter().map(|member| member.name).collect::<Vec<_>>();
    format!("{}\r\n", names.join(","))
}

/// A line of CSV.
fn row(entry: &Entry) -> String {
    let cells = MEMBERS.iter().map(|member| match (member.of)(entry) {
        Value::Null => String::new(),
        Value::String(text) => csv::cell(&text),
        other => other.to_string(),
    });
    format!("{}\r\n", cells.collect::<Vec<_>>().join(","))
}

/// A table of them. A column in which nothing stands but what is usual is left out.
fn drawn(entries: &[Entry], screen: Screen) -> String {
    let told = |member: &Member, entry: &Entry| match (member.of)(entry) {
        moment if member.name == "at" => second_of(&moment),
        other if other.is_f64() => figure(&other),
        other => text_of(&other),
    };
    let is_told = |member: &&Member| entries.iter().any(|entry| told(member, entry) != member.usual);
    let shown = MEMBERS.iter().filter(is_told).collect::<Vec<_>>();
    let columns = shown.iter().map(|member| member.column.clone()).collect::<Vec<_>>();
    let rows = entries.iter().map(|entry| shown.iter().map(|member| told(member, entry)).collect());
    Grid::new(&columns, screen).page(&rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::made::{entry, id};

    fn two() -> [Entry; 2] {
        let plain = Entry { units: 11, first_byte_us: 1_500, duration_us: 12_345, ..entry(id(1)) };
        let mut fault = Entry { at_unix_ms: 1_798_761_600_123, outcome: crate::store::Outcome::Fault, ..entry(id(2)) };
        (fault.reason, fault.status, fault.first_byte_us, fault.model) = ("timeout".into(), 0, 0, "=a,b".into());
        (fault.usage, fault.previous_secret) = (Default::default(), Some(*b"a secret"));
        [plain, fault]
    }

    #[test]
    fn records_become_a_table_of_what_there_is() {
        let mut entries = two();
        entries[1].usage.estimated = true;
        let expected = "\
AT                   REQUEST ID  KEY                                   DIALECT  ENDPOINT          MODEL   OUTCOME   REASON   STATUS  INPUT  CACHED  OUTPUT  ESTIMATED  UNITS  FIRST BYTE MS  WHOLE MS
1970-01-01 00:00:05  req-1       00000000-0000-0000-0000-000000000001  openai   chat/completions  gpt-4o  answered  -           200      7       2       3  no            11            1.5      12.3
2027-01-01 00:00:00  req-1       00000000-0000-0000-0000-000000000002  openai   chat/completions  =a,b    fault     timeout       -      0       0       0  yes           10              -       9.0
";
        assert_eq!(drawn(&entries, Screen { width: None, is_coloured: false }), expected);
        let narrow = drawn(&entries, Screen { width: Some(80), is_coloured: false });
        assert!(narrow.starts_with("AT                   KEY "), "{narrow}");
    }

    #[test]
    fn programs_read_every_member_of_a_record() {
        let [plain, fault] = two();
        let expected = r#"{"at":"1970-01-01T00:00:05Z","request_id":"req-1","key_id":"00000000-0000-0000-0000-000000000001",
            "dialect":"openai","endpoint":"chat/completions","model":"gpt-4o","outcome":"answered","reason":null,"status":200,"requests":1,
            "input_tokens":7,"cached_input_tokens":2,"cache_write_tokens":0,"output_tokens":3,"reasoning_tokens":0,"estimated":false,
            "audio_ms":0,"units":11,"first_byte_ms":1.5,"duration_ms":12.345}"#;
        assert_eq!(line(&plain), expected.split("\n            ").collect::<String>() + "\n");
        let read: Value = serde_json::from_str(&line(&fault)).unwrap();
        assert_eq!((&read["at"], &read["reason"]), (&"2027-01-01T00:00:00.123Z".into(), &"timeout".into()));
        assert!(read["status"].is_null() && read["first_byte_ms"].is_null());
        assert!(!line(&fault).contains("secret"));
        let lines = [head(), row(&plain), row(&fault)];
        assert!(lines.iter().all(|line| line.ends_with("\r\n")));
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
        assert!(lines[2].contains(",\"'=a,b\",fault,timeout,,1,"), "{}", lines[2]);
    }
}
