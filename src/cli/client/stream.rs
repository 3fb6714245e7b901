//! A connection to the admin listener, in clear or under TLS.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Server;
use super::address::Address;
use crate::tls::files;
use crate::upstream::tls;

/// What is read from and written to.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The way to one server.
#[derive(Debug)]
pub struct Way {
    /// Where it is.
    pub address: Address,
    tls: Option<Arc<ClientConfig>>,
}

impl Way {
    /// To the server of the command line.
    ///
    /// # Errors
    /// What of it is not in order.
    pub fn to(server: &Server) -> Result<Self, String> {
        let address =
            Address::parse(&server.admin_url).map_err(|why| format!("--admin-url {}: {why}", server.admin_url))?;
        let tls = match (address.is_tls, &server.admin_ca) {
            (true, ca) => Some(trust(ca.as_deref())?),
            (false, Some(_)) => return Err("--admin-ca is for an --admin-url that begins with https://".to_owned()),
            (false, None) => None,
        };
        Ok(Self { address, tls })
    }

    /// A new connection.
    ///
    /// # Errors
    /// There is none.
    pub async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
        match &self.tls {
            Some(config) => Ok(Box::new(tls::connect(config, &self.address.host, stream).await?)),
            None => Ok(Box::new(stream)),
        }
    }
}

/// Trust in an authority of the operator's own, or in those of the machine.
fn trust(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let Some(file) = ca else {
        return tls::client_config().map_err(|error| format!("no TLS: {error}"));
    };
    let told = |why: String| format!("--admin-ca {}: the file {why}", PathBuf::from(file).display());
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(file).map_err(told)? {
        roots.add(certificate).map_err(|error| told(format!("holds what can be nobody's authority: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
