//! What every store must do: one list of tests, to which each implementation is held.

pub(crate) mod audit;
pub(crate) mod faults;
pub(crate) mod keys;
pub(crate) mod listing;
pub(crate) mod made;
pub(crate) mod remembered;
pub(crate) mod search;
pub(crate) mod usage;

use crate::store::Store;

/// A store of one kind, new and empty, and how to open it once more.
pub(crate) struct Subject {
    store: Option<Box<dyn Store>>,
    open: Box<dyn Fn() -> Box<dyn Store>>,
}

impl Subject {
    /// What `open` opens.
    pub(crate) fn new(open: impl Fn() -> Box<dyn Store> + 'static) -> Self {
        Self { store: Some(open()), open: Box::new(open) }
    }

    /// The store.
    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_deref().expect("it is open")
    }

    /// Ends it and opens it once more.
    pub(crate) fn reopen(&mut self) {
        self.store = None;
        self.store = Some((self.open)());
    }
}

/// Makes a test of each behaviour for the subjects that `$make` makes.
macro_rules! hold_to_the_contract {
    ($make:path) => {
        $crate::store::contract::hold_to_the_contract! { $make;
            keys: every_field_of_a_key_comes_back_as_it_was,
            keys: a_number_is_for_life_and_a_removed_key_comes_back_under_it,
            keys: a_change_must_be_the_next_one,
            keys: a_secret_has_one_key,
            keys: secrets_move_between_keys_changed_in_one_step,
            keys: a_write_is_made_whole_or_not_at_all,
            keys: writers_at_once_each_get_their_own_result,
            keys: whatever_is_done_to_keys_they_are_what_a_plain_map_says,
            listing: pages_hold_every_key_once_in_order,
            listing: every_filter_lets_through_what_it_says,
            listing: a_status_is_that_of_its_moment,
            search: whatever_is_done_pages_are_those_of_a_plain_list,
            listing: an_organisation_is_known_as_long_as_a_key_names_it,
            usage: an_entry_counts_once_however_often_it_is_sent,
            usage: in_any_order_of_batches_the_count_is_the_same,
            usage: what_an_unknown_key_used_is_there_when_it_comes,
            usage: the_use_of_a_replaced_secret_lasts_while_it_is_listed,
            usage: sums_are_those_of_the_entries_however_grouped,
            usage: quantiles_are_near_the_exact_ones,
            usage: usage_belongs_to_the_owner_of_its_time,
            usage: records_are_the_entries_as_long_as_they_are_kept,
            usage: tidying_keeps_the_books_in_order,
            usage: numbers_beyond_any_sense_neither_wrap_nor_fail,
            audit: the_audit_is_read_newest_first_in_pages,
            remembered: an_answer_is_given_until_it_is_over,
            remembered: operators_are_kept,
            remembered: the_first_mark_of_a_pepper_stays,
            faults: everything_is_there_after_opening_again,
            faults: a_copy_holds_the_same_and_nothing_is_written_over,
        }
    };
    ($make:path; $($module:ident: $name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                $crate::store::contract::$module::$name($make());
            }
        )*
    };
}

pub(crate) use hold_to_the_contract;
