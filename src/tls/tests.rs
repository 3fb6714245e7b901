//! Files good and bad, the certificate each client is shown, and when sessions outlive a reload.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, ServerConnection};

use super::*;

/// 2026-01-01.
const NOW_MS: i64 = 1_767_225_600_000;

/// A folder of certificates.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("for us alone");
    }

    /// A certificate for these names and its key, as `NAME.pem` and `NAME.key`.
    fn make(&self, name: &str, hosts: &[&str], until: i32) -> PairFiles {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        self.write(&format!("{name}.pem"), &cert.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.pair(&format!("{name}.pem"), &format!("{name}.key"))
    }

    fn pair(&self, cert: &str, key: &str) -> PairFiles {
        PairFiles { cert: self.path(cert), key: self.path(key) }
    }
}

fn settings(pairs: Vec<PairFiles>) -> Settings {
    Settings { pairs, clients: None, protocols: Protocols::Both, oldest: Oldest::Tls12 }
}

fn load(settings: &Settings) -> Result<(Identity, Vec<Remark>), Vec<Remark>> {
    Identity::load(settings, NOW_MS)
}

/// The certificate that a client which asks for `host` is shown.
fn shown(identity: &Identity, host: &str) -> Vec<u8> {
    #[derive(Debug)]
    struct Anyone;
    impl rustls::client::danger::ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.signature_verification_algorithms.supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(identity.config())).expect("a server");
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut &wire[..]).expect("memory");
        server.process_new_packets().expect("a good client");
        let mut wire = Vec::new();
        server.write_tls(&mut wire).expect("memory");
        client.read_tls(&mut &wire[..]).expect("memory");
        client.process_new_packets().expect("a good server");
    }
    client.peer_certificates().and_then(|chain| chain.first()).expect("one is shown").to_vec()
}

fn der(path: &Path) -> Vec<u8> {
    rustls::pki_types::CertificateDer::from_pem_file(path).expect("a certificate").to_vec()
}

#[test]
fn a_client_is_shown_the_certificate_for_the_name_it_asks_for_and_the_first_when_none_is() {
    let folder = Folder::new();
    let pairs = vec![
        folder.make("first", &["first.example"], 2030),
        folder.make("wild", &["*.wild.example"], 2030),
        folder.make("own", &["own.wild.example", "Other.example"], 2030),
    ];
    let (identity, warnings) = load(&settings(pairs)).expect("good files");
    assert_eq!(warnings, []);
    for (host, name) in [
        ("first.example", "first"),
        ("a.wild.example", "wild"),
        ("own.wild.example", "own"),
        ("other.example", "own"),
        ("OTHER.EXAMPLE", "own"),
        ("a.b.wild.example", "first"),
        ("wild.example", "first"),
        ("unknown", "first"),
    ] {
        assert_eq!(shown(&identity, host), der(&folder.path(&format!("{name}.pem"))), "{host}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_at_its_place_and_all_at_once() {
    let folder = Folder::new();
    let (good, other) = (folder.make("good", &["h"], 2030), folder.make("other", &["h"], 2030));
    folder.write("empty", "");
    folder.write("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let told = |cert: &str, key: &str| {
        let faults = load(&settings(vec![folder.pair(cert, key)])).expect_err("a fault");
        faults.into_iter().map(|fault| (fault.place, fault.problem)).collect::<Vec<_>>()
    };
    let (cert, key) = (Place::Cert(0), Place::Key(0));
    let missing = "cannot be read: it does not exist".to_owned();
    assert_eq!(told("none", "gone"), [(cert, missing.clone()), (key, missing)]);
    assert_eq!(told("empty", "good.key"), [(cert, "holds no certificate in PEM".to_owned())]);
    assert!(told("garbage", "good.key")[0].1.starts_with("holds something that is no certificate"));
    assert_eq!(told("good.pem", "other.key"), [(key, "holds the key of another certificate".to_owned())]);
    assert!(told("good.pem", "good.pem")[0].1.starts_with("holds no private key in PEM"));
    assert!(told("good.pem", ".")[0].1.starts_with("is not a regular file"));
    // The second of several, and the authorities, have places of their own.
    let wrong = PairFiles { cert: other.cert, key: good.key.clone() };
    let clients = Some(ClientSettings { ca: folder.path("empty"), auth: ClientAuth::Required });
    let faults = load(&Settings { clients, ..settings(vec![good, wrong]) }).expect_err("faults");
    assert_eq!(faults.iter().map(|fault| fault.place).collect::<Vec<_>>(), [Place::Key(1), Place::ClientCa]);
}

#[test]
fn what_is_out_of_date_or_open_to_everybody_is_warned_of() {
    let folder = Folder::new();
    let (old, nameless) = (folder.make("old", &["h"], 2025), folder.make("nameless", &[], 2030));
    fs::set_permissions(&old.key, fs::Permissions::from_mode(0o644)).expect("changed");
    let (identity, warnings) = load(&settings(vec![old, nameless])).expect("usable files");
    let places = warnings.iter().map(|warning| warning.place).collect::<Vec<_>>();
    assert_eq!(places, [Place::Cert(0), Place::Key(0), Place::Cert(1)], "{warnings:?}");
    assert!(warnings[0].problem.contains("expired") && warnings[1].problem.contains("everybody"), "{warnings:?}");
    assert_eq!(identity.expires_unix_s(), 1_735_689_600);
}

#[test]
fn what_has_not_changed_keeps_its_tickets() {
    let folder = Folder::new();
    let settings = settings(vec![folder.make("a", &["h"], 2030)]);
    let read = |settings: &Settings| Arc::new(load(settings).expect("good files").0);
    let first = read(&settings);
    let again = read(&settings);
    assert!(Arc::ptr_eq(&Identity::keep(Some(&first), Some(&again)).expect("one"), &first));
    folder.make("a", &["h"], 2031);
    let renewed = Arc::new(first.reread(NOW_MS).expect("good files").0);
    assert!(Arc::ptr_eq(&Identity::keep(Some(&first), Some(&renewed)).expect("one"), &renewed));
    assert_eq!(Identity::keep(Some(&first), None), None, "what is taken out is gone");
}

#[test]
fn what_prints_it_prints_no_key() {
    let folder = Folder::new();
    let files = folder.make("a", &["h"], 2030);
    let key = fs::read_to_string(&files.key).expect("the key");
    let (identity, _) = load(&settings(vec![files])).expect("good files");
    let identity = Arc::new(identity);
    let printed = format!("{identity:?} {:?}", InForce::new(Some(Arc::clone(&identity))));
    assert!(key.lines().filter(|line| !line.starts_with('-')).all(|line| !printed.contains(line)), "{printed}");
}
