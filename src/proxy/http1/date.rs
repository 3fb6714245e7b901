//! The date of answers that have none of their own, written once a second.

use std::cell::{Ref, RefCell};
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

/// The date as it was last written.
#[derive(Debug, Default)]
pub struct Date(RefCell<Written>);

#[derive(Debug, Default)]
struct Written {
    /// `None` before the first.
    second: Option<i64>,
    text: String,
}

impl Date {
    /// The date so many seconds after 1970, as HTTP has it (RFC 9110 5.6.7).
    pub fn at(&self, second: i64) -> Ref<'_, [u8]> {
        if self.0.borrow().second != Some(second) {
            let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(second).unwrap_or(0));
            *self.0.borrow_mut() = Written { second: Some(second), text: HttpDate::from(time).to_string() };
        }
        Ref::map(self.0.borrow(), |written| written.text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_its_second() {
        let date = Date::default();
        assert_eq!(&*date.at(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&*date.at(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&*date.at(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&*date.at(-1), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
