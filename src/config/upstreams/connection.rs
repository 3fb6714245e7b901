//! How an upstream is connected to and what is told it: headers, the HTTP spoken, TLS, a forward proxy.

use http::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::config::secret::{Reference, read_small_file};
use crate::config::upstreams::urls::read_address;
use crate::upstream::settings::may_be_set;
use crate::upstream::tls::{ClientTls, TlsFlaw};
use crate::upstream::{Address, Protocol};

pub(in crate::config) const TLS_NAMES: Names = &["ca", "cert", "key"];

const PROTOCOLS: [(&str, Protocol); 3] = [("1.1", Protocol::Http1), ("2", Protocol::Http2), ("auto", Protocol::Auto)];

pub(super) fn read_protocol(table: &Table<'_>) -> Protocol {
    table.get("http").and_then(|item| item.one_of(&PROTOCOLS)).unwrap_or(Protocol::Http1)
}

/// The operator's headers. What a value holds goes into no fault: it may be secret.
pub(super) fn read_headers(table: &Table<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let Some(headers) = table.get("headers").and_then(|item| item.into_open_table()) else { return Vec::new() };
    let mut read: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, item) in headers.members() {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            item.fault_unseen("the name is not a header's");
            continue;
        };
        if !may_be_set(&header) {
            item.fault_unseen("this header is not the operator's to set; a credential belongs into api_key");
            continue;
        }
        if read.iter().any(|(other, _)| *other == header) {
            item.fault_unseen("this header is there already, in another letter case");
        }
        let value = match item.reference() {
            // In clear without a warning: most headers are no secret.
            Some(Reference::Clear(text)) => Some(Zeroizing::new(text.to_owned())),
            Some(_) => item.secret(),
            None => None,
        };
        let Some(value) = value else { continue };
        match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                read.push((header, value));
            }
            Err(_) => item.fault_unseen("holds a character that cannot stand in a header"),
        }
    }
    read
}

pub(super) fn read_proxy(table: &Table<'_>) -> Option<Address> {
    const EXPECTED: &str = "an http URL such as \"http://proxy.example.com:3128\"";
    let item = table.get("proxy")?;
    let address = read_address(&item, EXPECTED)?;
    if address.tls || !address.prefix.is_empty() {
        item.fault_unseen("the proxy is asked by CONNECT: an http URL with host and port alone is expected");
        return None;
    }
    Some(address)
}

/// Certificates and key of files, read and tried out here, so that a file that is no good is a fault and not a surprise.
pub(super) fn read_tls(table: &Table<'_>, protocol: Protocol) -> Option<ClientTls> {
    let item = table.get("tls")?;
    let tls = item.into_table(TLS_NAMES)?;
    let read = |name| tls.get(name).map(|item| read_pem(&item));
    let (ca, cert, key) = (read("ca"), read("cert"), read("key"));
    match (&cert, &key) {
        (Some(_), None) => tls.fault_of("key", "is missing: a certificate is of no use without its key".to_owned()),
        (None, Some(_)) => tls.fault_of("cert", "is missing: a key is of no use without its certificate".to_owned()),
        _ => {}
    }
    // What could not be read has its fault already.
    let is_whole = [&ca, &cert, &key].iter().all(|pem| !matches!(pem, Some(None)));
    if !is_whole || cert.is_some() != key.is_some() {
        return None;
    }
    let (ca, cert, key) = (ca.flatten(), cert.flatten(), key.flatten());
    let identity = cert.as_ref().zip(key.as_ref()).map(|(cert, key)| (cert.as_slice(), key.as_slice()));
    match ClientTls::new(ca.as_ref().map(|pem| pem.as_slice()), identity, protocol) {
        Ok(tls) => Some(tls),
        Err(flaw) => {
            let (name, problem) = match flaw {
                TlsFlaw::Roots => ("ca", "holds no certificate that can be trusted as a root"),
                TlsFlaw::Certificate => ("cert", "holds no certificate"),
                TlsFlaw::Key => ("key", "holds no key, or not the certificate's"),
                TlsFlaw::Provider => ("ca", "cannot be used: TLS does not start on this machine"),
            };
            match tls.get(name) {
                Some(item) => item.fault_unseen(problem),
                None => tls.fault_of(name, problem.to_owned()),
            }
            None
        }
    }
}

fn read_pem(item: &Item<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let path = item.parsed("the path of a PEM file", |path| (!path.is_empty()).then(|| item.reader.resolve(path)))?;
    match read_small_file(&path) {
        Ok(pem) => Some(pem),
        Err(problem) => {
            item.fault_unseen(format!("the file {path:?} {problem}"));
            None
        }
    }
}
