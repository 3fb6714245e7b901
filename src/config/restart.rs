//! What a reload cannot change.

use crate::config::Config;

/// The settings, by path, that differ and take effect only after a restart: sockets, threads and storage are made once.
/// Everything else applies to the next connection or request.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let settings = [
        ("server.listen", old.server.listen != new.server.listen),
        ("server.socket_mode", old.server.socket_mode != new.server.socket_mode),
        ("server.workers", old.server.workers != new.server.workers),
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("admin.socket_mode", old.admin.socket_mode != new.admin.socket_mode),
        ("storage.url", old.storage.backend != new.storage.backend),
        ("storage.ledger_window", old.ledger.window != new.ledger.window),
        ("storage.journal_size", old.ledger.journal_size != new.ledger.journal_size),
        ("storage.records_kept", old.ledger.records_kept != new.ledger.records_kept),
        ("storage.pepper", old.storage.pepper != new.storage.pepper),
    ];
    settings.into_iter().filter(|(_, differs)| *differs).map(|(path, _)| path.to_owned()).collect()
}
