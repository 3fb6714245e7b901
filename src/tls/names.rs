//! Which certificate is shown to a client that says what it looks for (SNI).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::files::Pair;

/// Certificates by the names they are for.
#[derive(Debug)]
pub(super) struct ByName {
    /// By a name, or what stands behind a `*.`, in the order of the configuration.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    wild: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Option<Arc<CertifiedKey>>,
}

impl ByName {
    /// The first is also for whom no other is.
    pub(super) fn new(pairs: Vec<Pair>) -> Self {
        let default = pairs.first().map(|pair| Arc::clone(&pair.certified));
        let mut found = Self { exact: HashMap::new(), wild: HashMap::new(), default };
        for pair in pairs {
            for name in pair.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut found.wild, rest.to_owned()),
                    None => (&mut found.exact, name),
                };
                names.entry(name).or_default().push(Arc::clone(&pair.certified));
            }
        }
        found
    }

    /// The certificates for a name: its own, or those of its domain, whose star stands for one label (RFC 6125 6.4.3).
    fn of(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let own = self.exact.get(name);
        let domains = || name.split_once('.').and_then(|(_, domain)| self.wild.get(domain));
        own.or_else(domains).map(Vec::as_slice).unwrap_or_default()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = match hello.server_name() {
            Some(name) => self.of(&name.to_ascii_lowercase()),
            None => &[],
        };
        // Of several for one name, the first whose kind of key the client takes.
        let taken = named.iter().find(|certified| certified.key.choose_scheme(hello.signature_schemes()).is_some());
        taken.or(self.default.as_ref()).cloned()
    }
}
