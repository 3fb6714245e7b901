//! What the command line asks for.

/// What `--help` prints.
pub const HELP: &str = "\
cargo bench --bench proxy -- [ROW]... [--rounds N] [--quick]

Rows (default: all):
  requests   CPU per request at saturation
  latency    added latency at a fixed rate, without coordinated omission
  streams    CPU and delay of relayed events
  memory     KiB per open stream, resident memory before, at the most and after
  skew       CPU of two workers under uneven load; one hot key against many
  bodies     CPU per MB of large request bodies, peak memory
  start      start to first answer; reload of many keys under load

  --rounds N  rounds of every measurement, all programs in turn (default 5)
  --quick     one short round: does everything work? Its numbers mean little.
  --train     no measurement, but a little of every load: what `tools/pgo` lays the program out by

HAProxy and nginx are measured beside Keyward when `haproxy` and `nginx` are on the PATH.";

/// A group of rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    Requests,
    Latency,
    Streams,
    Memory,
    Skew,
    Bodies,
    Start,
}

impl Row {
    const ALL: [Self; 7] =
        [Self::Requests, Self::Latency, Self::Streams, Self::Memory, Self::Skew, Self::Bodies, Self::Start];

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Latency => "latency",
            Self::Streams => "streams",
            Self::Memory => "memory",
            Self::Skew => "skew",
            Self::Bodies => "bodies",
            Self::Start => "start",
        }
    }
}

/// What is to be measured, and for how long.
#[derive(Debug, Clone)]
pub struct Arguments {
    pub rows: Vec<Row>,
    pub rounds: usize,
    pub is_quick: bool,
}

impl Arguments {
    /// One of two values: for a real run, for a quick one.
    pub fn pick<T>(&self, real: T, quick: T) -> T {
        if self.is_quick { quick } else { real }
    }
}

/// What the command line came to.
#[derive(Debug)]
pub enum Asked {
    Measure(Arguments),
    Train,
    Help,
    Nothing,
    Unknown(String),
}

/// Reads the command line; cargo adds `--bench` to it.
pub fn read(words: &[String]) -> Asked {
    let (mut rows, mut rounds, mut is_quick, mut is_bench) = (Vec::new(), None, false, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => is_bench = true,
            "--quick" => is_quick = true,
            "--train" => return Asked::Train,
            "--help" | "-h" => return Asked::Help,
            "--rounds" => match words.next().and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0) {
                Some(n) => rounds = Some(n),
                None => return Asked::Unknown("--rounds without a number above zero".to_owned()),
            },
            name => match Row::ALL.into_iter().find(|row| row.name() == name) {
                Some(row) if !rows.contains(&row) => rows.push(row),
                Some(_) => {}
                None => return Asked::Unknown(name.to_owned()),
            },
        }
    }
    if !is_bench && !is_quick && rows.is_empty() && rounds.is_none() {
        return Asked::Nothing;
    }
    if rows.is_empty() {
        rows = Row::ALL.to_vec();
    }
    Asked::Measure(Arguments { rows, rounds: rounds.unwrap_or(if is_quick { 1 } else { 5 }), is_quick })
}
