//! What every store must do: one list of tests, to which each implementation is held.

pub(crate) mod keys;
pub(crate) mod made;

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
