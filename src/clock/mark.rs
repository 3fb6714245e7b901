//! What a process leaves to the next one of what was certain.

use std::fmt;
use std::str::FromStr;

/// A time that was certain, and where that was on a clock that nobody sets. As text: both, apart by spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Milliseconds since 1970.
    pub unix_ms: i64,
    /// When it was that time; `None` where the system does not tell.
    pub at: Option<SinceBoot>,
}

/// A moment of one run of the system. Time that the machine was suspended for counts (`CLOCK_BOOTTIME`, clock_gettime(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinceBoot {
    /// Which run (`/proc/sys/kernel/random/boot_id`, random(4)).
    pub boot: Box<str>,
    /// Milliseconds since it began.
    pub ms: i64,
}

impl Mark {
    /// What time it is, if it was certain then and the system has run ever since; `None` where it was started anew.
    pub(super) fn at(&self, now: Option<&SinceBoot>) -> Option<i64> {
        let (then, now) = (self.at.as_ref()?, now?);
        let elapsed = now.ms.checked_sub(then.ms).filter(|elapsed| *elapsed >= 0 && then.boot == now.boot)?;
        self.unix_ms.checked_add(elapsed)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{} {} {}", self.unix_ms, at.boot, at.ms),
            None => write!(f, "{}", self.unix_ms),
        }
    }
}

/// Text that is no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMark;

impl FromStr for Mark {
    type Err = NoMark;

    fn from_str(text: &str) -> Result<Self, NoMark> {
        let number = |text: &str| text.parse::<i64>().map_err(|_| NoMark);
        match text.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [unix_ms] => Ok(Self { unix_ms: number(unix_ms)?, at: None }),
            [unix_ms, boot, ms] => {
                Ok(Self { unix_ms: number(unix_ms)?, at: Some(SinceBoot { boot: boot.into(), ms: number(ms)? }) })
            }
            _ => Err(NoMark),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn since_boot(boot: &str, ms: i64) -> SinceBoot {
        SinceBoot { boot: boot.into(), ms }
    }

    #[test]
    fn the_time_goes_on_in_the_same_run_of_the_system_alone() {
        let mark = Mark { unix_ms: 1_000, at: Some(since_boot("a", 50)) };
        assert_eq!(mark.at(Some(&since_boot("a", 80))), Some(1_030));
        assert_eq!(mark.at(Some(&since_boot("a", 50))), Some(1_000));
        for other in [Some(since_boot("b", 80)), Some(since_boot("a", 49)), None] {
            assert_eq!(mark.at(other.as_ref()), None, "{other:?}");
        }
        let old = Mark { unix_ms: 1_000, at: None };
        assert_eq!(old.at(Some(&since_boot("a", 80))), None);
        let late = Mark { unix_ms: i64::MAX, at: Some(since_boot("a", i64::MIN)) };
        assert_eq!(late.at(Some(&since_boot("a", i64::MAX))), None, "no text makes it overflow");
    }

    proptest! {
        #[test]
        fn a_mark_is_read_as_it_was_written(unix_ms: i64, boot in "[0-9a-f-]{1,36}", ms: i64, has_at: bool) {
            let mark = Mark { unix_ms, at: has_at.then(|| since_boot(&boot, ms)) };
            prop_assert_eq!(format!("{mark}\n").parse(), Ok(mark));
        }

        #[test]
        fn any_text_is_a_mark_or_none(text in "\\PC*") {
            let _is_no_panic = text.parse::<Mark>();
        }
    }
}
