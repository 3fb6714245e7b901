//! Sockets that listen, on a port or on a path: made here, or handed over by a service manager or by the program before.

mod inherited;
mod stream;

use std::fmt;
use std::fs;
use std::io;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use socket2::{Domain, SockAddr, Socket, Type};

pub use inherited::{Given, Inherited, Role};
pub use stream::{Loose, Stream};

/// Connections that may wait to be accepted; the system may have a lower bound of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// What a path to listen on begins with.
const UNIX: &str = "unix:";

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl Address {
    /// The address and port, where it has some.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path of `unix:PATH`; `None` when the text is not of that form.
    pub fn path_of(text: &str) -> Option<&str> {
        text.strip_prefix(UNIX)
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match Self::path_of(text) {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp),
        }
    }
}

/// Who stands for the peer of a connection that came by a path: this machine itself, on no port.
pub const BY_PATH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// What it was asked to be; a port of 0 stays 0 here.
    asked: Address,
    /// Whether a service manager made it: then it and its like are used whatever the configuration says.
    is_managed: bool,
    socket: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Makes one. A path gets `mode` before anybody can connect; a socket that was left there is removed if nobody listens on it.
    ///
    /// # Errors
    /// The address or the path cannot be had.
    pub fn bind(address: &Address, mode: u32) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address) => bind_port(*address).map(Kind::Tcp),
            Address::Unix(path) => bind_path(path, mode).map(Kind::Unix),
        };
        let socket = socket.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
        Ok(Self { asked: address.clone(), is_managed: false, socket })
    }

    /// What it was asked to be.
    pub fn asked(&self) -> &Address {
        &self.asked
    }

    /// Whether a service manager made it.
    pub fn is_managed(&self) -> bool {
        self.is_managed
    }

    /// Where it really listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<Address> {
        match &self.socket {
            Kind::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            Kind::Unix(socket) => {
                let address = socket.local_addr()?;
                Ok(Address::Unix(address.as_pathname().map(Path::to_owned).unwrap_or_default()))
            }
        }
    }

    /// The same socket once more: whoever has either can accept.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Kind::Tcp(socket) => Kind::Tcp(socket.try_clone()?),
            Kind::Unix(socket) => Kind::Unix(socket.try_clone()?),
        };
        Ok(Self { asked: self.asked.clone(), is_managed: self.is_managed, socket })
    }

    /// Accepts from now on; to be called in the runtime that is to do so.
    ///
    /// # Errors
    /// The runtime cannot take it.
    pub fn open(self) -> io::Result<Open> {
        match self.socket {
            Kind::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(socket).map(Open::Tcp)
            }
            Kind::Unix(socket) => {
                socket.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(socket).map(Open::Unix)
            }
        }
    }

    /// A socket that came from elsewhere.
    fn of(socket: OwnedFd, asked: Option<Address>, is_managed: bool) -> io::Result<Self> {
        let socket = Socket::from(socket);
        let refused = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        if socket.r#type()? != Type::STREAM {
            return Err(refused("not a socket for connections".to_owned()));
        }
        let address = socket.local_addr()?;
        let socket = match address.domain() {
            Domain::IPV4 | Domain::IPV6 => Kind::Tcp(TcpListener::from(OwnedFd::from(socket))),
            Domain::UNIX => Kind::Unix(UnixListener::from(OwnedFd::from(socket))),
            other => return Err(refused(format!("a socket of a kind that is not known here ({other:?})"))),
        };
        let listener = Self { asked: Address::Tcp(BY_PATH), is_managed, socket };
        let asked = asked.map_or_else(|| listener.address(), Ok)?;
        Ok(Self { asked, ..listener })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Kind::Tcp(socket) => socket.as_fd(),
            Kind::Unix(socket) => socket.as_fd(),
        }
    }
}

fn bind_port(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_path(path: &Path, mode: u32) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before it listens: until then nobody can connect, whatever mode it was made with.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(OwnedFd::from(socket).into())
}

/// Removes a socket that nobody listens on; anything else that stands there is left alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        // `bind` says what is wrong with it.
        _ => return Ok(()),
    }
    // Without waiting: who listens and does not accept is there as well.
    let asking = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    asking.set_nonblocking(true)?;
    match asking.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(()) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there, and accepts nobody"))
        }
        Err(error) => Err(error),
    }
}

/// A socket that accepts in a runtime.
#[derive(Debug)]
pub enum Open {
    /// On a port.
    Tcp(tokio::net::TcpListener),
    /// On a path.
    Unix(tokio::net::UnixListener),
}

impl Open {
    /// The next connection and its peer, which for one that came by a path is [`BY_PATH`]. Whoever stops waiting loses none.
    ///
    /// # Errors
    /// Out of descriptors, or the connection has gone already.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::tcp(stream), peer))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::unix(stream), BY_PATH))
            }
        }
    }
}

#[cfg(test)]
mod tests;
