//! HTTPS as IAM speaks it: HTTP/1.1 over TLS with ring, trusting the system's certificate authorities.
//!
//! The SDK has a connector of its own, which costs a cold start a fifth of its time and the binary an HTTP/2
//! implementation that nothing uses: see `docs/speed.md`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lambda_runtime::tower::ServiceExt;
use lambda_runtime::tower::util::MapResponse;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Makes requests over connections that it keeps.
#[derive(Clone, Debug)]
pub struct Https(Client<HttpsConnector<Tcp>, SdkBody>);

/// Told when a handshake begins: a good time for work that need not be done before.
pub static HANDSHAKE: Notify = Notify::const_new();

type Stream = TokioIo<TcpStream>;
type Tcp = MapResponse<connect::HttpConnector, fn(Stream) -> Stream>;

impl Https {
    /// A connector whose TCP connections are made within `connect_timeout`, or not at all.
    pub fn new(connect_timeout: Duration) -> Self {
        let mut tcp = connect::HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        // A new connection's next step is a handshake, and its first the server's: time to read whom to trust.
        let tcp = tcp.map_response(
            (|stream| {
                tokio::spawn(async { LazyLock::force(&SYSTEM) });
                HANDSHAKE.notify_one();
                stream
            }) as fn(_) -> _,
        );
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = Verifier::new(&SYSTEM, &provider);
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring's default provider has the cipher suites of TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let https =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Self(Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(https))
    }
}

impl HttpConnector for Https {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let response = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let response = response.await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Who is trusted, once it has been read; `None` is nobody.
type Trusted = LazyLock<Option<Arc<WebPkiServerVerifier>>>;

/// The system's trust store.
static SYSTEM: Trusted = LazyLock::new(|| trusting(authorities()));

fn trusting(authorities: RootCertStore) -> Option<Arc<WebPkiServerVerifier>> {
    let provider = Arc::new(crypto::ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider).build().ok()
}

/// Verifies a server by rustls's own verifier, and only that. What it adds is that the trust store may still be being
/// read when a connection begins: reading it takes as long as a handshake, and can so be done during one.
#[derive(Debug)]
struct Verifier {
    trusted: &'static Trusted,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(trusted: &'static Trusted, provider: &CryptoProvider) -> Self {
        Self { trusted, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &**self.trusted {
            Some(verifier) => verifier.verify_server_cert(server, intermediates, name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The certificate authorities of the file that `SSL_CERT_FILE` names, else of the system's.
fn authorities() -> RootCertStore {
    let mut authorities = RootCertStore::empty();
    if let Some(file) = bundle().and_then(|path| File::open(path).ok()) {
        // Systems trust certificates that cannot be read; whom they vouch for is not trusted here. A file that breaks
        // off has been read as far as it goes.
        let _ = read_certificates(BufReader::new(file), |certificate| drop(authorities.add(certificate)));
    }
    if authorities.is_empty() {
        // A folder of them, or no plain text: slower, and tells what is wrong.
        let found = rustls_native_certs::load_native_certs();
        authorities.add_parsable_certificates(found.certs);
        if authorities.is_empty() {
            tracing::error!(errors = ?found.errors, "there are no certificate authorities: see SSL_CERT_FILE");
        }
    }
    authorities
}

/// The one file that holds the certificate authorities, if there is one.
fn bundle() -> Option<PathBuf> {
    let set = |variable| std::env::var_os(variable).filter(|value| value != OsStr::new(""));
    match (set("SSL_CERT_FILE"), set("SSL_CERT_DIR")) {
        (Some(file), None) => Some(file.into()),
        (None, None) => openssl_probe::probe().cert_file,
        (_, Some(_)) => None,
    }
}

/// Reads the certificates of a PEM file, a line at a time; what is no certificate is passed over.
fn read_certificates(mut pem: impl BufRead, mut each: impl FnMut(CertificateDer<'static>)) -> io::Result<()> {
    let (mut line, mut text, mut inside) = (Vec::new(), Vec::new(), false);
    while pem.read_until(b'\n', &mut line)? > 0 {
        match line.trim_ascii() {
            b"-----BEGIN CERTIFICATE-----" => {
                inside = true;
                text.clear();
            }
            b"-----END CERTIFICATE-----" if inside => {
                inside = false;
                if let Some(der) = str::from_utf8(&text).ok().and_then(|text| base64::decode(text).ok()) {
                    each(der.into());
                }
            }
            body if inside => text.extend_from_slice(body),
            _ => {}
        }
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
    use rustls::time_provider::TimeProvider;
    use rustls::{ClientConnection, ServerConfig, ServerConnection, SignatureAlgorithm, version};

    use super::*;

    const AUTHORITY: &str = include_str!("../tests/fixtures/tls/authority.pem");
    const SERVER: &str = include_str!("../tests/fixtures/tls/server.pem");

    static OURS: Trusted = LazyLock::new(|| {
        let mut authorities = RootCertStore::empty();
        read_certificates(AUTHORITY.as_bytes(), |authority| authorities.add(authority).unwrap()).unwrap();
        trusting(authorities)
    });
    static NOBODY: Trusted = LazyLock::new(|| trusting(RootCertStore::empty()));

    const IN_2030: UnixTime = UnixTime::since_unix_epoch(Duration::from_hours(525_960));

    #[test]
    fn a_server_is_trusted_by_its_name_its_time_and_an_authority_that_vouches_for_it() {
        const IN_2200: UnixTime = UnixTime::since_unix_epoch(Duration::from_hours(2_016_144));
        for (trusted, name, now, expected) in [
            (&OURS, "iam.example.com", IN_2030, Ok(())),
            (&OURS, "iam.amazonaws.com", IN_2030, Err("NotValidForName")),
            (&OURS, "iam.example.com", IN_2200, Err("Expired")),
            (&SYSTEM, "iam.example.com", IN_2030, Err("UnknownIssuer")),
            (&NOBODY, "iam.example.com", IN_2030, Err("UnknownIssuer")),
        ] {
            let verifier = Verifier::new(trusted, &crypto::ring::default_provider());
            let answer = verifier.verify_server_cert(&server(), &[], &name.try_into().unwrap(), &[], now);
            match (answer, expected) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(reason)) => assert!(format!("{error:?}").contains(reason), "{error:?}"),
                (answer, _) => panic!("{name} at {now:?}: {answer:?}"),
            }
        }
    }

    fn server() -> CertificateDer<'static> {
        let mut server = None;
        read_certificates(SERVER.as_bytes(), |certificate| server = Some(certificate)).unwrap();
        server.unwrap()
    }

    /// A certificate is public; what it takes to be its server is the key.
    #[test]
    fn a_server_that_has_not_the_key_of_its_certificate_is_refused() {
        for version in [&version::TLS12, &version::TLS13] {
            let provider = Arc::new(crypto::ring::default_provider());
            let client = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(In2030))
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Verifier::new(&OURS, &provider)))
                .with_no_client_auth();
            let pretender = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![server()], Arc::new(Pretender))));
            let server = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(pretender);
            let name = "iam.example.com".try_into().unwrap();
            let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
            let mut server = ServerConnection::new(Arc::new(server)).unwrap();
            let answer = loop {
                let mut sent = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut sent).unwrap();
                }
                server.read_tls(&mut sent.as_slice()).unwrap();
                server.process_new_packets().unwrap();
                let mut sent = Vec::new();
                while server.wants_write() {
                    server.write_tls(&mut sent).unwrap();
                }
                client.read_tls(&mut sent.as_slice()).unwrap();
                match client.process_new_packets() {
                    Ok(_) if client.is_handshaking() => {}
                    answer => break answer.map(drop),
                }
            };
            assert_eq!(answer, Err(CertificateError::BadSignature.into()), "{version:?}");
        }
    }

    #[derive(Debug)]
    struct In2030;

    impl TimeProvider for In2030 {
        fn current_time(&self) -> Option<UnixTime> {
            Some(IN_2030)
        }
    }

    /// Signs without the key.
    #[derive(Debug)]
    struct Pretender;

    impl SigningKey for Pretender {
        fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
            Some(Box::new(Self))
        }

        fn algorithm(&self) -> SignatureAlgorithm {
            SignatureAlgorithm::ECDSA
        }
    }

    impl Signer for Pretender {
        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
            Ok(vec![0; 70])
        }

        fn scheme(&self) -> SignatureScheme {
            SignatureScheme::ECDSA_NISTP256_SHA256
        }
    }

    #[test]
    fn every_certificate_of_a_bundle_is_read_whatever_stands_between() {
        let pem = "# One\n-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n\
                   -----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n\
                   -----BEGIN TRUSTED CERTIFICATE-----\nbm8=\n-----END TRUSTED CERTIFICATE-----\n\
                   -----BEGIN CERTIFICATE-----\r\ndHdv\r\ndGhyZWU=\r\n-----END CERTIFICATE-----\r\n\
                   -----BEGIN CERTIFICATE-----\nYnJva2Vu";
        let mut read = Vec::new();
        read_certificates(pem.as_bytes(), |certificate| read.push(certificate)).unwrap();
        assert_eq!(read, [&b"one"[..], b"twothree"].map(|der| CertificateDer::from(der.to_vec())));
    }
}
