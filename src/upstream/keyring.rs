//! The operator's credentials for one upstream, used in turn. Pure: time is an argument.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::StatusCode;

use crate::clock::NS_PER_SECOND;
use crate::upstream::settings::Credential;

/// How long a credential rests that the upstream does not know.
const UNKNOWN_NS: u64 = 300 * NS_PER_SECOND;
/// How long one rests that has used up its rate, where the upstream does not say; and the longest that it is believed.
const SPENT_NS: u64 = 30 * NS_PER_SECOND;
const LONGEST_NS: u64 = 300 * NS_PER_SECOND;

/// The credentials of one upstream; workers share it.
#[derive(Debug)]
pub struct Keyring {
    turn: AtomicUsize,
    keys: Box<[Key]>,
}

#[derive(Debug)]
struct Key {
    credential: Credential,
    /// Until when it is passed over, nanoseconds of the monotonic clock.
    rests_until_ns: AtomicU64,
}

impl Keyring {
    /// None of them resting.
    pub fn new(credentials: &[Credential]) -> Self {
        let key = |credential: &Credential| Key { credential: credential.clone(), rests_until_ns: AtomicU64::new(0) };
        Self { turn: AtomicUsize::new(0), keys: credentials.iter().map(key).collect() }
    }

    /// The next one that does not rest, with its number; where all rest, the one that has rested soonest. `None` for an upstream that
    /// wants none.
    pub fn next(&self, now_ns: impl FnOnce() -> u64) -> Option<(usize, &Credential)> {
        if let [only] = &*self.keys {
            return Some((0, &only.credential));
        }
        let count = self.keys.len();
        if count == 0 {
            return None;
        }
        let (turn, now_ns) = (self.turn.fetch_add(1, Ordering::Relaxed), now_ns());
        let rest_of = |index: usize| {
            let until_ns = self.keys.get(index).map_or(u64::MAX, |key| key.rests_until_ns.load(Ordering::Relaxed));
            until_ns.saturating_sub(now_ns)
        };
        let index = (0..count).map(|step| turn.wrapping_add(step) % count).min_by_key(|index| rest_of(*index))?;
        self.keys.get(index).map(|key| (index, &key.credential))
    }

    /// What an answer to a request with credential `index` says of it. Of a single one nothing is learnt: there is no other.
    pub fn answered(&self, index: usize, status: StatusCode, retry_after_s: Option<u64>, now_ns: u64) {
        if self.keys.len() < 2 {
            return;
        }
        let rest_ns = match status {
            StatusCode::UNAUTHORIZED => UNKNOWN_NS,
            StatusCode::TOO_MANY_REQUESTS => {
                retry_after_s.map_or(SPENT_NS, |seconds| seconds.saturating_mul(NS_PER_SECOND).min(LONGEST_NS))
            }
            _ => return,
        };
        if let Some(key) = self.keys.get(index) {
            key.rests_until_ns.fetch_max(now_ns.saturating_add(rest_ns), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(count: usize) -> Keyring {
        let credentials = (0..count).map(|n| Credential::new(&format!("credential-{n}")).unwrap()).collect::<Vec<_>>();
        Keyring::new(&credentials)
    }

    fn next(ring: &Keyring, now_ns: u64) -> usize {
        ring.next(|| now_ns).unwrap().0
    }

    #[test]
    fn they_are_used_in_turn() {
        let ring = ring(3);
        assert_eq!((0..6).map(|_| next(&ring, 0)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        assert!(self::ring(0).next(|| 0).is_none());
    }

    #[test]
    fn one_that_was_turned_down_rests_a_while() {
        let ring = ring(2);
        ring.answered(0, StatusCode::UNAUTHORIZED, None, 5);
        ring.answered(1, StatusCode::BAD_REQUEST, None, 5);
        assert!((0..4).all(|_| next(&ring, UNKNOWN_NS + 4) == 1));
        assert!((0..4).any(|_| next(&ring, UNKNOWN_NS + 5) == 0));
    }

    #[test]
    fn one_that_is_spent_rests_as_long_as_it_is_told() {
        let ring = ring(2);
        ring.answered(0, StatusCode::TOO_MANY_REQUESTS, Some(7), 0);
        ring.answered(1, StatusCode::TOO_MANY_REQUESTS, Some(u64::MAX), 0);
        assert!((0..4).all(|_| next(&ring, NS_PER_SECOND) == 0), "where all rest, the one whose rest ends first");
        assert!((0..4).all(|_| next(&ring, 200 * NS_PER_SECOND) == 0));
        assert!((0..4).any(|_| next(&ring, LONGEST_NS) == 1), "and none is believed to rest for ever");
    }

    #[test]
    fn a_single_one_never_rests() {
        let ring = ring(1);
        ring.answered(0, StatusCode::UNAUTHORIZED, None, 0);
        assert_eq!(next(&ring, 1), 0);
    }
}
