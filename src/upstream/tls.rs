//! TLS towards upstreams. The one place that sets rustls up for them.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::upstream::settings::Protocol;

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// A client configuration that trusts what the machine trusts, or Mozilla's roots where the machine has none.
///
/// # Errors
/// When neither can be set up.
pub fn client_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = match builder()?.with_platform_verifier() {
        Ok(builder) => builder.with_no_client_auth(),
        Err(error) => {
            tracing::info!(%error, "this machine has no trust roots of its own; upstreams are checked against Mozilla's");
            builder()?.with_root_certificates(mozilla()).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(Arc::new(config))
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, rustls::Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn mozilla() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The configurations for upstreams that say nothing of TLS: one for each choice of HTTP.
#[derive(Debug, Clone)]
pub struct Defaults([Arc<ClientConfig>; 3]);

impl Defaults {
    /// From one of them.
    pub fn new(base: &Arc<ClientConfig>) -> Self {
        Self([Protocol::Http1, Protocol::Http2, Protocol::Auto].map(|protocol| offering(base, protocol)))
    }

    /// That which offers `protocol`.
    pub fn of(&self, protocol: Protocol) -> &Arc<ClientConfig> {
        let [http1, http2, auto] = &self.0;
        match protocol {
            Protocol::Http1 => http1,
            Protocol::Http2 => http2,
            Protocol::Auto => auto,
        }
    }
}

fn offering(base: &Arc<ClientConfig>, protocol: Protocol) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(base);
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![HTTP1.to_vec()],
        Protocol::Http2 => vec![HTTP2.to_vec()],
        Protocol::Auto => vec![HTTP2.to_vec(), HTTP1.to_vec()],
    };
    Arc::new(config)
}

/// What an operator says of TLS to one upstream. Equal when made of the same files' content. `Debug` hides it.
#[derive(Clone)]
pub struct ClientTls {
    roots: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: Option<Arc<PrivateKeyDer<'static>>>,
    config: Arc<ClientConfig>,
}

/// What is wrong with it: which of its files, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFlaw {
    /// The file of roots holds no certificate that can be one.
    Roots,
    /// The file of the certificate holds none.
    Certificate,
    /// The file of the key holds none, or one that is not the certificate's.
    Key,
    /// rustls does not start.
    Provider,
}

impl ClientTls {
    /// From the text of PEM files: roots to trust instead of the machine's, and our certificate (with its chain) and key.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(ca: Option<&[u8]>, identity: Option<(&[u8], &[u8])>, protocol: Protocol) -> Result<Self, TlsFlaw> {
        let certificates = |pem: &[u8], flaw| {
            let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| flaw)?;
            if found.is_empty() { Err(flaw) } else { Ok(found) }
        };
        let roots = ca.map_or(Ok(Vec::new()), |pem| certificates(pem, TlsFlaw::Roots))?;
        let new = || builder().map_err(|_| TlsFlaw::Provider);
        let verifying = if roots.is_empty() {
            match new()?.with_platform_verifier() {
                Ok(builder) => builder,
                Err(_) => new()?.with_root_certificates(mozilla()),
            }
        } else {
            let mut store = RootCertStore::empty();
            for root in &roots {
                store.add(root.clone()).map_err(|_| TlsFlaw::Roots)?;
            }
            new()?.with_root_certificates(store)
        };
        let (chain, key, config) = match identity {
            Some((chain, key)) => {
                let chain = certificates(chain, TlsFlaw::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsFlaw::Key)?;
                let config = verifying.with_client_auth_cert(chain.clone(), key.clone_key());
                (chain, Some(Arc::new(key)), config.map_err(|_| TlsFlaw::Key)?)
            }
            None => (Vec::new(), None, verifying.with_no_client_auth()),
        };
        Ok(Self { roots, chain, key, config: offering(&Arc::new(config), protocol) })
    }

    /// What connections are made with.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        let key = |tls: &Self| tls.key.as_ref().map(|key| key.secret_der().to_vec());
        self.roots == other.roots
            && self.chain == other.chain
            && key(self) == key(other)
            && self.config.alpn_protocols == other.config.alpn_protocols
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls(..)")
    }
}

/// Shakes hands with `host` over `tcp`.
///
/// # Errors
/// A name that no certificate can have, or a handshake that failed.
pub async fn connect(config: &Arc<ClientConfig>, host: &str, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a host name"))?;
    TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
}

/// Whether the two have agreed on HTTP/2.
pub fn agreed_on_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}
