//! What the admin APIs need of the running program; `app` implements it.

use std::sync::Arc;

use crate::admin::probes::Readiness;
use crate::limits::LimitSettings;
use crate::policy::PriceTable;
use crate::store::Books;
use crate::units::Tokens;
use crate::upstream::Routes;

/// The running program, as operators ask it.
pub trait Program: Readiness {
    /// Which upstream serves what, as in force.
    fn routes(&self) -> Arc<Routes>;

    /// `[prices]`, as in force.
    fn prices(&self) -> PriceTable;

    /// `[limits]`, as in force.
    fn limit_settings(&self) -> LimitSettings;

    /// Output tokens assumed for a model when a request states none.
    fn expected_output(&self, model: Option<&str>) -> Tokens;

    /// Reads both files anew and puts them in force. Blocks; takes the [`Gate`](crate::admin::Gate) for writing itself.
    ///
    /// # Errors
    /// Every fault, one line each; nothing is changed then.
    fn reload(&self) -> Result<(), Vec<String>>;

    /// Brings what was settled until now into the store, so that a question about usage finds it. Blocks. What cannot be brought there
    /// stays where it is kept, and comes later.
    fn flush_usage(&self);

    /// Recomputes the books and compares them with what limits enforce. Blocks.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn verify_books(&self) -> Result<Books, String>;
}
