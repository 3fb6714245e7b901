//! Certificates and keys as files, and what can be wrong with them. Nothing of what a key's file holds is ever told.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};
use sha2::{Digest, Sha256};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use zeroize::Zeroizing;

use crate::tls::PairFiles;

/// The largest file that is read, bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// Which of the settings a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The certificate of the pair with this index.
    Cert(usize),
    /// Its key.
    Key(usize),
    /// The authorities clients are checked against.
    ClientCa,
}

/// Something that is wrong or unwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Where.
    pub place: Place,
    /// What the file there does, to be said behind its name: `does not exist`.
    pub problem: String,
}

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    /// The names it is for, lower case; one may begin with `*.`.
    pub(super) names: Vec<String>,
    pub(super) not_after_unix_s: i64,
}

impl Pair {
    /// Reads both files into `digest` and checks that they belong together.
    pub(super) fn load(
        files: &PairFiles,
        index: usize,
        now_unix_ms: i64,
        digest: &mut Sha256,
        warnings: &mut Vec<Remark>,
    ) -> Result<Self, Vec<Remark>> {
        let (cert, key) = (Place::Cert(index), Place::Key(index));
        let at = |place, problem| Remark { place, problem };
        let (chain, secret) = match (chain(&files.cert, digest), private_key(&files.key, digest)) {
            (Ok(chain), Ok(secret)) => (chain, secret),
            (chain, secret) => {
                let faults = [chain.err().map(|why| at(cert, why)), secret.err().map(|why| at(key, why))];
                return Err(faults.into_iter().flatten().collect());
            }
        };
        let told = Told::of(&chain).map_err(|why| vec![at(cert, why)])?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, secret, &provider).map_err(|error| {
            vec![match error {
                Error::InconsistentKeys(_) => at(key, "holds the key of another certificate".to_owned()),
                Error::InvalidCertificate(why) => at(cert, format!("holds a certificate that TLS cannot use: {why:?}")),
                _ => at(key, "holds a key of a kind that TLS cannot use".to_owned()),
            }]
        })?;
        let now_s = now_unix_ms.div_euclid(1_000);
        let mut warn = |place, problem: &str| warnings.push(at(place, problem.to_owned()));
        if told.not_after_unix_s < now_s {
            warn(cert, "holds a certificate that has expired");
        } else if told.not_before_unix_s > now_s {
            warn(cert, "holds a certificate that is not valid yet");
        }
        if index > 0 && told.names.is_empty() {
            warn(cert, "holds a certificate that names no host, so nobody is shown it");
        }
        if is_world_readable(&files.key) {
            warn(key, "can be read by everybody on this machine; chmod 600 keeps the key from them");
        }
        let Told { names, not_after_unix_s, .. } = told;
        Ok(Self { certified: Arc::new(certified), names, not_after_unix_s })
    }
}

/// What a certificate says of itself.
struct Told {
    names: Vec<String>,
    not_before_unix_s: i64,
    not_after_unix_s: i64,
}

impl Told {
    fn of(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let broken = |error| format!("holds something that is no certificate: {error}");
        let leaf = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let leaf = x509_cert::Certificate::from_der(leaf).map_err(broken)?;
        let leaf = leaf.tbs_certificate();
        let names = leaf.get_extension::<SubjectAltName>().map_err(broken)?.map(|(_, names)| names.0);
        let dns = names.unwrap_or_default().into_iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            _ => None,
        });
        let seconds =
            |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        let validity = leaf.validity();
        Ok(Self {
            names: dns.collect(),
            not_before_unix_s: seconds(validity.not_before),
            not_after_unix_s: seconds(validity.not_after),
        })
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// What is wrong with it.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    chain(path, &mut Sha256::new())
}

/// Trust in the certificates of a PEM file.
pub(super) fn authorities(path: &Path, digest: &mut Sha256) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path, digest)? {
        roots.add(certificate).map_err(|error| format!("holds what can be nobody's authority: {error}"))?;
    }
    Ok(roots)
}

fn chain(path: &Path, digest: &mut Sha256) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path, digest)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err("holds no certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

/// The parser's own words are not told: they may repeat what stands in the file.
fn private_key(path: &Path, digest: &mut Sha256) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path, digest)?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| "holds no private key in PEM; one under a passphrase is not read".to_owned())
}

fn read(path: &Path, digest: &mut Sha256) -> Result<Zeroizing<Vec<u8>>, String> {
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "cannot be read: it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "cannot be read: permission denied".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // Anything else, a pipe or a device, could block for ever.
    if !path.metadata().map_err(told)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).map_err(told)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("is larger than {LARGEST_FILE} bytes"));
    }
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(&*bytes);
    Ok(bytes)
}

fn is_world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}
