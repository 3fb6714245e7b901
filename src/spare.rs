//! Memory that is free goes back to the system. Who gives memory out is the program's affair; when much of it has become free is known here and there.

use std::sync::OnceLock;

/// How the program's allocator gives back what is free; a program that sets none leaves it to it.
static GIVING_BACK: OnceLock<fn()> = OnceLock::new();

/// Sets how freed memory goes back to the system. To be called once, first.
pub fn give_back_by(how: fn()) {
    // The first stands.
    let _ = GIVING_BACK.set(how);
}

/// Gives back what the calling thread has freed, and what nobody has since taken of all others': what a thread frees last stays until it frees
/// something else, and one that has nothing more to do does not.
pub fn give_back() {
    if let Some(how) = GIVING_BACK.get() {
        how();
    }
}

/// Tells when a thread has come to much less to do than it had.
#[derive(Debug, Default)]
pub struct Ebb {
    /// The most since it was last low.
    most: usize,
}

impl Ebb {
    /// What is less has left little behind.
    const LITTLE: usize = 64;

    /// Whether so much is no more than half of the most that there was; then that is the most from now on.
    pub fn has_come(&mut self, now: usize) -> bool {
        self.most = self.most.max(now);
        let has_come = self.most > Self::LITTLE && now <= self.most / 2;
        if has_come {
            self.most = now;
        }
        has_come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ebb_comes_once_for_each_time_that_half_has_gone() {
        let mut ebb = Ebb::default();
        let seen = [1, 0, 64, 0, 1_000, 600, 500, 500, 260, 250, 0, 0, 65, 32].map(|now| ebb.has_come(now));
        let wanted = [6, 9, 10, 13];
        for (at, seen) in seen.into_iter().enumerate() {
            assert_eq!(seen, wanted.contains(&at), "{at}");
        }
    }
}
