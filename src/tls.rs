//! TLS towards clients and operators: which certificate a client is shown, whether it has to show one itself, and what its session may be
//! resumed with. The files are read anew by a reload; what has not changed keeps its tickets. (Towards upstreams: `upstream::tls`.)

pub mod files;
mod names;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

pub use files::{Place, Remark};

use files::Pair;
use names::ByName;

/// Sessions kept for clients that know no tickets.
const SESSIONS: usize = 1024;

/// What a listener's TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Certificates with their keys; at least one. The first is shown to whom no other is for.
    pub pairs: Vec<PairFiles>,
    /// Whose certificates clients are asked for.
    pub clients: Option<ClientSettings>,
    /// What is spoken over it.
    pub protocols: Protocols,
    /// The oldest version of TLS that a client may come with.
    pub oldest: Oldest,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, and behind it those that lead to its root: PEM.
    pub cert: PathBuf,
    /// Its private key: PEM, without a passphrase.
    pub key: PathBuf,
}

/// Which clients are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Those with a certificate of one of these authorities: PEM.
    pub ca: PathBuf,
    /// Whether one without any is let in too.
    pub auth: ClientAuth,
}

/// Whether clients have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// One that is shown has to be good.
    Optional,
    /// Nobody gets in without.
    Required,
}

/// What may be agreed on over TLS (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2, and HTTP/1.1 with whoever does not speak that.
    Both,
    /// HTTP/1.1.
    Http1,
}

/// The oldest version of TLS that is spoken; 1.3 always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oldest {
    /// What every client of the last ten years can.
    Tls12,
    /// Mozilla's "modern" profile (wiki.mozilla.org/Security/Server_Side_TLS).
    Tls13,
}

/// How ALPN calls HTTP/2.
pub const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

impl Settings {
    /// Every file it is read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let pairs = self.pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        pairs.chain(self.clients.iter().map(|clients| &clients.ca))
    }

    /// A remark with the file it is about.
    pub fn tell(&self, remark: &Remark) -> String {
        let pair = |index: usize| self.pairs.get(index);
        let file = match remark.place {
            Place::Cert(index) => pair(index).map(|pair| &pair.cert),
            Place::Key(index) => pair(index).map(|pair| &pair.key),
            Place::ClientCa => self.clients.as_ref().map(|clients| &clients.ca),
        };
        let file = file.map(|file| file.display().to_string()).unwrap_or_default();
        format!("{file} {}", remark.problem)
    }
}

/// A listener's TLS, ready to shake hands with. One for all workers, so that a session begun on one is resumed on any.
pub struct Identity {
    settings: Settings,
    config: Arc<ServerConfig>,
    /// Of settings and contents: what has the same needs no replacing.
    digest: [u8; 32],
    expires_unix_s: i64,
}

impl Identity {
    /// Reads the files. `now_unix_ms` is for telling what is out of date. With it comes what is allowed but unwise.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(settings: &Settings, now_unix_ms: i64) -> Result<(Self, Vec<Remark>), Vec<Remark>> {
        let (mut faults, mut warnings, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        let mut digest = Sha256::new_with_prefix(format!("{settings:?}"));
        for (index, files) in settings.pairs.iter().enumerate() {
            match Pair::load(files, index, now_unix_ms, &mut digest, &mut warnings) {
                Ok(pair) => pairs.push(pair),
                Err(mut found) => faults.append(&mut found),
            }
        }
        let clients = settings.clients.as_ref();
        let roots = clients.and_then(|clients| match files::authorities(&clients.ca, &mut digest) {
            Ok(roots) => Some((roots, clients.auth)),
            Err(problem) => {
                faults.push(Remark { place: Place::ClientCa, problem });
                None
            }
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let expires_unix_s = pairs.iter().map(|pair| pair.not_after_unix_s).min().unwrap_or(i64::MAX);
        let config = server_config(pairs, roots, settings)
            .map_err(|error| vec![Remark { place: Place::ClientCa, problem: error.to_string() }])?;
        let config = Arc::new(config);
        Ok((Self { settings: settings.clone(), config, digest: digest.finalize().into(), expires_unix_s }, warnings))
    }

    /// Reads the same files again.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn reread(&self, now_unix_ms: i64) -> Result<(Self, Vec<Remark>), Vec<Remark>> {
        Self::load(&self.settings, now_unix_ms)
    }

    /// What a handshake is made with.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// What it was read from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When the first of its certificates is out of date, seconds since 1970.
    pub fn expires_unix_s(&self) -> i64 {
        self.expires_unix_s
    }

    /// `new`, or `old` where they are the same: its sessions can then go on being resumed. A change of authorities ends them all.
    pub fn keep(old: Option<&Arc<Self>>, new: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let is_same = |old: &&Arc<Self>| new.is_some_and(|new| new.digest == old.digest);
        old.filter(is_same).or(new).cloned()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Identity {}

/// What one listener shakes hands with now; `None` where it speaks in clear.
#[derive(Debug, Default)]
pub struct InForce(ArcSwapOption<Identity>);

impl InForce {
    /// As the program starts.
    pub fn new(identity: Option<Arc<Identity>>) -> Self {
        Self(ArcSwapOption::new(identity))
    }

    /// For the next connection.
    pub fn get(&self) -> Option<Arc<Identity>> {
        self.0.load_full()
    }

    /// From the next connection on.
    pub fn replace(&self, identity: Option<&Arc<Identity>>) {
        self.0.store(Identity::keep(self.0.load().as_ref(), identity));
    }
}

fn server_config(
    pairs: Vec<Pair>,
    clients: Option<(RootCertStore, ClientAuth)>,
    settings: &Settings,
) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = match settings.oldest {
        Oldest::Tls12 => builder.with_protocol_versions(&[&TLS13, &TLS12])?,
        Oldest::Tls13 => builder.with_protocol_versions(&[&TLS13])?,
    };
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((roots, auth)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match auth {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                ClientAuth::Required => verifier,
            };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(pairs)));
    config.alpn_protocols = match settings.protocols {
        Protocols::Both => vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()],
        Protocols::Http1 => vec![ALPN_HTTP1.to_vec()],
    };
    // Its keys are made anew every six hours; what they sealed is good for six more.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    // Data before the handshake's end can be replayed, and a request costs money.
    config.max_early_data_size = 0;
    Ok(config)
}
