//! Any text as a moment or a duration on the command line: what is understood lies within the calendar and on the right side of now, and
//! is understood the same when it is written out.

use jiff::Timestamp;
use keyward::cli::moment::{Way, moment, seconds};

/// The whole text.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let now: Timestamp = "2027-01-31T12:00:00Z".parse().expect("a moment");
    let (ahead, back) = (moment(text, Way::Ahead, now), moment(text, Way::Back, now));
    for found in [&ahead, &back] {
        match found {
            Ok(found) => {
                assert_eq!(moment(&found.to_string(), Way::Ahead, now), Ok(*found), "not what it is written as")
            }
            Err(why) => assert!(why.contains(text.trim()), "what is refused is named: {why}"),
        }
    }
    // A moment is itself whichever way one looks; a duration leads away from now.
    if let (Ok(ahead), Ok(back)) = (&ahead, &back) {
        assert!(ahead == back || (*back <= now && now <= *ahead), "{back} and {ahead} of {now}");
    }
    match seconds(text) {
        // Whole seconds of the same length of time, wherever no calendar is in it.
        Ok(seconds) if text.trim() != "0" => assert_seconds(text, seconds, now),
        Ok(seconds) => assert_eq!(seconds, 0),
        Err(why) => assert!(why.contains(text), "what is refused is named: {why}"),
    }
}

fn assert_seconds(text: &str, seconds: u64, now: Timestamp) {
    let Ok(then) = moment(text, Way::Ahead, now) else { return };
    let passed = then.duration_since(now).as_secs();
    assert_eq!(u64::try_from(passed), Ok(seconds), "two readings of {text:?}");
}
