//! Failed credentials, counted per client address (SECURITY 4): the throttle meets failures only, never a valid key.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::clock::{NS_PER_MINUTE, NS_PER_SECOND, Now};

/// Addresses remembered at once.
const MOST: usize = 65_536;

const SHARDS: usize = 64;

/// Failures of every client address, a continuously refilled allowance each. Memory is bounded: when a flood comes from more
/// than 65,536 addresses at once some of them are forgotten, which costs the flood nothing it could not have by waiting.
#[derive(Debug)]
pub struct Attempts {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

/// A client: an IPv4 address, or the /64 that one IPv6 customer has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// An IPv4 address, also one written as IPv6.
    V4(u32),
    /// The upper half of an IPv6 address.
    V6(u64),
}

impl Client {
    /// Whose address it is.
    pub fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.into()),
            // The upper half of 128 bits fits.
            IpAddr::V6(v6) => Self::V6((u128::from(v6) >> 64) as u64),
        }
    }
}

#[derive(Debug, Default)]
struct Shard {
    /// When each client's allowance is whole again, nanoseconds of the monotonic clock.
    whole_at: HashMap<Client, u64>,
    swept_ns: u64,
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new()
    }
}

impl Attempts {
    /// Nobody has failed yet.
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Counts one failed credential from `addr`, of which `per_minute` are answered as such (in a burst, then evenly).
    ///
    /// # Errors
    /// Nanoseconds until one more may be made; it is not counted then, so that the wait stays true. With `per_minute` of 0 every
    /// failure is refused, for a minute.
    pub fn record_failure(&self, addr: IpAddr, per_minute: u32, now: Now) -> Result<(), u64> {
        if per_minute == 0 {
            return Err(NS_PER_MINUTE);
        }
        let (client, now) = (Client::of(addr), now.monotonic_ns);
        let cost = NS_PER_MINUTE / u64::from(per_minute);
        let mut shard = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        let from = shard.whole_at.get(&client).copied().unwrap_or(0).max(now);
        let debt = (from - now).saturating_add(cost);
        if debt > NS_PER_MINUTE {
            return Err(debt - NS_PER_MINUTE);
        }
        if shard.whole_at.len() >= MOST / SHARDS && !shard.whole_at.contains_key(&client) {
            shard.make_room(now);
        }
        shard.whole_at.insert(client, from.saturating_add(cost));
        Ok(())
    }

    /// Addresses remembered; at most 65,536.
    pub fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).whole_at.len();
        self.shards.iter().map(len).sum()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, client: Client) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(client);
        // `SHARDS` is the length of the slice.
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}

impl Shard {
    /// Forgets whose allowance is whole, at most once a second; if there is nobody, anybody.
    fn make_room(&mut self, now: u64) {
        if now >= self.swept_ns.saturating_add(NS_PER_SECOND) {
            self.swept_ns = now;
            self.whole_at.retain(|_, whole_at| *whole_at > now);
        }
        while self.whole_at.len() >= MOST / SHARDS {
            let Some(any) = self.whole_at.keys().next().copied() else { break };
            self.whole_at.remove(&any);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const NOW: Now = Now { monotonic_ns: NS_PER_MINUTE, unix_ms: 0 };

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_then_an_exact_wait_for_each_address_alone() {
        let attempts = Attempts::new();
        assert!((0..3).all(|_| attempts.record_failure(addr("10.0.0.1"), 3, NOW).is_ok()));
        let wait = attempts.record_failure(addr("10.0.0.1"), 3, NOW).unwrap_err();
        assert_eq!(wait, 20 * NS_PER_SECOND);
        assert!(attempts.record_failure(addr("10.0.0.1"), 3, NOW.plus_ns(wait - 1)).is_err());
        assert!(attempts.record_failure(addr("10.0.0.1"), 3, NOW.plus_ns(wait)).is_ok());
        assert!(attempts.record_failure(addr("10.0.0.2"), 3, NOW).is_ok());
        assert_eq!(attempts.record_failure(addr("10.0.0.3"), 0, NOW), Err(NS_PER_MINUTE));
    }

    #[test]
    fn an_ipv6_customer_is_one_client_and_a_mapped_address_its_ipv4() {
        let attempts = Attempts::new();
        assert!(attempts.record_failure(addr("2001:db8::1"), 1, NOW).is_ok());
        assert!(attempts.record_failure(addr("2001:db8::ffff:2"), 1, NOW).is_err());
        assert!(attempts.record_failure(addr("2001:db8:0:1::1"), 1, NOW).is_ok());
        assert!(attempts.record_failure(addr("10.0.0.1"), 1, NOW).is_ok());
        assert!(attempts.record_failure(addr("::ffff:10.0.0.1"), 1, NOW).is_err());
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_does_not_stop_the_count_of_others() {
        let attempts = Attempts::new();
        for n in 0..100_000_u32 {
            assert!(attempts.record_failure(IpAddr::V4(Ipv4Addr::from(n)), 1, NOW).is_ok());
            let v6 = Ipv6Addr::from(u128::from(n) << 64);
            assert!(attempts.record_failure(IpAddr::V6(v6), 1, NOW).is_ok());
        }
        assert!(attempts.len() <= MOST && attempts.len() > MOST / 2);
        assert!(attempts.record_failure(addr("10.9.9.9"), 1, NOW).is_ok());
        assert!(attempts.record_failure(addr("10.9.9.9"), 1, NOW).is_err());
        let later = NOW.plus_ns(2 * NS_PER_MINUTE);
        for n in 0..SHARDS as u32 * 64 {
            assert!(attempts.record_failure(IpAddr::V4(Ipv4Addr::from(n)), 1, later).is_ok());
        }
        assert!(attempts.len() < MOST / 2, "what was repaid is swept when room is needed");
    }

    #[test]
    fn the_ends_of_the_ranges_do_not_wrap() {
        let attempts = Attempts::new();
        let end = Now { monotonic_ns: u64::MAX, unix_ms: 0 };
        assert!(attempts.record_failure(addr("::1"), u32::MAX, end).is_ok());
        let _ = attempts.record_failure(addr("::1"), 1, end);
        assert!(attempts.record_failure(addr("::1"), 1, NOW).is_err());
    }
}
