//! Upstreams over TLS: whom we trust, and as whom we come.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::{ask, is_quiet, proxy};
use crate::harness::apis;
use crate::harness::raw_backend::RawBackend;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root")
}

/// Certificate and key, as PEM.
fn leaf(issuer: &Issuer, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    (params.signed_by(&key, issuer).expect("a certificate").pem(), key.serialize_pem())
}

/// A backend on `localhost` over TLS, which wants a certificate of `clients` where there is one.
fn backend(issuer: &Issuer, clients: Option<&Issuer>) -> RawBackend {
    let (cert, key) = leaf(issuer, "localhost");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.expect("versions");
    let builder = match clients {
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).expect("a root")).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
        None => builder.with_no_client_auth(),
    };
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).expect("a pair")));
    RawBackend::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = [0; 16 * 1024];
            while matches!(stream.read(&mut head).await, Ok(1..)) {
                let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.flush().await;
            }
        }
    })
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_is_known_by_the_operators_root_and_we_by_our_certificate() {
    let (ours, theirs, clients) = (issuer(), issuer(), issuer());
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = leaf(&clients, "keyward");
    let ca = write(folder.path(), "ca.pem", &ours.pem());
    let cert = write(folder.path(), "client.pem", &cert);
    let key = write(folder.path(), "client.key", &key);
    let known = format!("tls = {{ ca = \"{ca}\" }}");
    let both = format!("tls = {{ ca = \"{ca}\", cert = \"{cert}\", key = \"{key}\" }}");
    for (issuer, wants, more, is_served) in [
        (&ours, None, known.as_str(), true),
        (&theirs, None, known.as_str(), false),
        (&ours, None, "", false),
        (&ours, Some(&clients), known.as_str(), false),
        (&ours, Some(&clients), both.as_str(), true),
        (&ours, Some(&theirs), both.as_str(), false),
    ] {
        let backend = backend(issuer, wants);
        let proxy = proxy(&format!("https://localhost:{}", backend.address.port()), more);
        let answer = ask(&proxy).await;
        if is_served {
            assert_eq!(answer.status, 200, "{more}: {}", answer.text());
        } else {
            assert_eq!(answer.status, 502, "{more}: {}", answer.text());
            assert!(apis::OPENAI.error_code(&answer.json()).starts_with("upstream_"));
        }
        is_quiet(&proxy).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_the_certificates_refuses_the_file() {
    let clients = issuer();
    let folder = tempfile::tempdir().expect("a folder");
    let cert = write(folder.path(), "client.pem", &leaf(&clients, "keyward").0);
    let key = write(folder.path(), "client.key", &leaf(&clients, "keyward").1);
    let text = format!(
        "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = \"https://h\"\nmodels = [\"*\"]\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}\n"
    );
    let told = keyward::config::parse(&text, Path::new("keyward.toml"), &|_| None).expect_err("a fault").to_string();
    assert!(told.contains("upstreams[0].tls.key: holds no key, or not the certificate's"), "{told}");
}
