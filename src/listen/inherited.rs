//! Sockets that somebody else has made for this program: a service manager (systemd's socket activation), or the program that ran before it.

use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;

use crate::listen::{Address, Listener};

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Clients.
    Data,
    /// Operators.
    Admin,
}

impl Role {
    /// Its name, as `FileDescriptorName=` of a socket unit may say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Admin => "admin",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Data, Self::Admin].into_iter().find(|role| role.as_str() == name)
    }
}

/// One socket that was handed over.
#[derive(Debug)]
pub struct Given {
    /// What it is for; `None` where nobody said.
    pub role: Option<Role>,
    /// The socket.
    pub listener: Listener,
}

impl Given {
    /// What is to be said of a socket when it is handed on: one line, without a break.
    pub fn label(role: Role, listener: &Listener) -> String {
        let maker = if listener.is_managed() { "managed" } else { "own" };
        format!("{} {maker} {}", role.as_str(), listener.asked())
    }

    /// A socket with its label.
    ///
    /// # Errors
    /// The label is not one, or the socket is none that listens.
    pub fn labelled(label: &str, socket: OwnedFd) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a socket was handed over with a label that is none");
        let mut words = label.splitn(3, ' ');
        let (Some(role), Some(maker), Some(asked)) = (words.next(), words.next(), words.next()) else {
            return Err(wrong());
        };
        let asked: Address = asked.parse().map_err(|_| wrong())?;
        let role = Role::of(role).ok_or_else(wrong)?;
        Ok(Self { role: Some(role), listener: Listener::of(socket, Some(asked), maker == "managed")? })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Given>);

impl Inherited {
    /// Those that were handed over.
    pub fn new(given: Vec<Given>) -> Self {
        Self(given)
    }

    /// Those of the service manager that started this process (`LISTEN_FDS`, `LISTEN_FDNAMES`). To be called once, early.
    ///
    /// # Errors
    /// One of them is no socket for connections.
    pub fn of_service_manager() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut given = Vec::with_capacity(sockets.len());
        for at in 0..sockets.len() {
            let role = names.next().and_then(Role::of);
            let socket = match sockets.take_tcp_listener(at) {
                Ok(Some(socket)) => OwnedFd::from(socket),
                _ => match sockets.take_unix_listener(at)? {
                    Some(socket) => OwnedFd::from(socket),
                    None => continue,
                },
            };
            given.push(Given { role, listener: Listener::of(socket, None, true)? });
        }
        Ok(Self(given))
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sockets for `role`, which the configuration wants at `wanted`: those of a service manager, if it gave any for that, and no others; else
    /// those that were handed over for these addresses, and new ones for the rest. A managed socket without a role is for operators where its
    /// address is `admin`, and for clients otherwise.
    ///
    /// # Errors
    /// A new one cannot be made.
    pub fn take(
        &mut self,
        role: Role,
        wanted: &[Address],
        mode: u32,
        admin: Option<&Address>,
    ) -> io::Result<Vec<Listener>> {
        let role_of = |given: &Given| {
            let is_admin = || admin == Some(given.listener.asked());
            given.role.unwrap_or(if is_admin() { Role::Admin } else { Role::Data })
        };
        let managed = self.0.extract_if(.., |given| given.listener.is_managed && role_of(given) == role);
        let managed: Vec<Listener> = managed.map(|given| given.listener).collect();
        if !managed.is_empty() {
            return Ok(managed);
        }
        let mut listeners = Vec::with_capacity(wanted.len());
        for address in wanted {
            let is_it = |given: &Given| role_of(given) == role && given.listener.asked() == address;
            listeners.push(match self.0.iter().position(is_it) {
                Some(at) => self.0.swap_remove(at).listener,
                None => Listener::bind(address, mode)?,
            });
        }
        Ok(listeners)
    }
}
