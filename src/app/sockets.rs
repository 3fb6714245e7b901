//! The sockets that a program listens on, wherever they come from.

use std::io;

use crate::config::Config;
use crate::listen::{Inherited, Listener, Role};

/// All of them.
#[derive(Debug)]
pub struct Sockets {
    /// For clients.
    pub data: Vec<Listener>,
    /// For operators.
    pub admin: Listener,
}

impl Sockets {
    /// Those the configuration wants: out of `inherited` what is there, the rest is made.
    ///
    /// # Errors
    /// An address or a path that cannot be had.
    pub fn of(config: &Config, mut inherited: Inherited) -> io::Result<Self> {
        let (server, admin) = (&config.server, &config.admin);
        let mut take = |role, wanted: &[_], mode| inherited.take(role, wanted, mode, Some(&admin.listen));
        let data = take(Role::Data, &server.listen, server.socket_mode)?;
        let found = take(Role::Admin, std::slice::from_ref(&admin.listen), admin.socket_mode)?;
        let mut found = found.into_iter();
        let first = found.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let unused = inherited.len() + found.len();
        if unused > 0 {
            tracing::warn!(unused, "sockets were handed over that the configuration has no use for; they are closed");
        }
        Ok(Self { data, admin: first })
    }

    /// The same sockets once more, with what each is for.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn try_clone(&self) -> io::Result<Vec<(Role, Listener)>> {
        let data = self.data.iter().map(|listener| (Role::Data, listener));
        let all = data.chain([(Role::Admin, &self.admin)]);
        all.map(|(role, listener)| Ok((role, listener.try_clone()?))).collect()
    }
}
