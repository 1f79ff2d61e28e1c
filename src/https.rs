//! HTTPS as IAM speaks it: HTTP/1.1 over TLS with ring. rustls verifies the server, against the certificate authorities
//! of the system or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
//!
//! The SDK's connector does the same, but it links HTTP/2, takes longer to read the authorities, and counts a missing
//! trust store as a server that does not answer: see `docs/speed.md`.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, crypto};

/// Connections kept for the next call: an event needs one, and has another if a try fails. A sweep opens more and keeps
/// none of them. Without a bound, its dead connections could use up all tries of the next event.
const IDLE_CONNECTIONS: usize = 2;
/// How long they are kept. One that is idle for longer may have been closed at the other end without a sign.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes requests over connections that it keeps.
#[derive(Clone, Debug)]
pub struct Https {
    client: Client<HttpsConnector<connect::HttpConnector>, SdkBody>,
    no_authorities: Option<NoAuthorities>,
}

/// No certificate authority can be read, so that no server can be trusted.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the function cannot read any certificate authority, so that it trusts no server ({0}). Correct SSL_CERT_FILE and \
     SSL_CERT_DIR, or remove them to use the system's authorities"
)]
pub struct NoAuthorities(String);

impl Https {
    /// A connector with the given time to make a TCP connection.
    pub fn new(connect_timeout: Duration) -> Self {
        let (authorities, no_authorities) = match authorities() {
            Ok(authorities) => (authorities, None),
            Err(error) => (RootCertStore::empty(), Some(error)),
        };
        let mut tcp = connect::HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(authorities))
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(https);
        Self { client, no_authorities }
    }
}

fn tls(authorities: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring's default provider has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(authorities)
        .with_no_client_auth()
}

impl HttpConnector for Https {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if let Some(error) = &self.no_authorities
            && !request.uri().starts_with("http://")
        {
            return HttpConnectorFuture::ready(Err(ConnectorError::user(error.clone().into())));
        }
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        // After a 5xx or a time-out the SDK asks for the connection, to close it: the next try must not ask the same
        // server. Where there is none, it must get an answer all the same, or it logs an error of its own.
        let connection = connect::capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || {
                let connection = connection.clone();
                let close = move || {
                    if let Some(connection) = connection.connection_metadata().as_ref() {
                        connection.poison();
                    }
                };
                Some(ConnectionMetadata::builder().proxied(false).poison_fn(close).build())
            });
        }
        let response = self.client.request(request);
        HttpConnectorFuture::new(async move {
            let response = response.await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

fn authorities() -> Result<RootCertStore, NoAuthorities> {
    let bundle = bundle().and_then(|path| File::open(path).ok());
    let bundle = bundle.and_then(|file| of_pem(BufReader::new(file)).ok());
    let mut authorities = bundle.unwrap_or_else(RootCertStore::empty);
    if authorities.is_empty() {
        // A directory of them, or a file that cannot be used: this tells why.
        let found = rustls_native_certs::load_native_certs();
        authorities.add_parsable_certificates(found.certs);
        if authorities.is_empty() {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(NoAuthorities(if errors.is_empty() { "none found".to_owned() } else { errors.join("; ") }));
        }
    }
    Ok(authorities)
}

/// The authorities of a PEM file. Skips a certificate that it cannot read.
///
/// rustls's own reader decodes a byte at a time, which was half of the instructions of a cold start. And we keep neither
/// the file nor the certificates: a cold start waits for each new page of memory. See `docs/speed.md`.
fn of_pem(mut pem: impl BufRead) -> io::Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    let (mut line, mut text) = (String::new(), String::new());
    while pem.read_line(&mut line)? > 0 {
        match line.trim_end() {
            "-----BEGIN CERTIFICATE-----" => text.clear(),
            "-----END CERTIFICATE-----" => {
                let certificate = base64::decode(&text).ok().map(CertificateDer::from);
                authorities.add_parsable_certificates(certificate);
            }
            line => text.push_str(line),
        }
        line.clear();
    }
    Ok(authorities)
}

/// The one file that holds the certificate authorities, if there is one.
fn bundle() -> Option<PathBuf> {
    let set = |variable| env::var_os(variable).filter(|value| !value.is_empty());
    match (set("SSL_CERT_FILE"), set("SSL_CERT_DIR")) {
        (Some(file), None) => Some(file.into()),
        (None, None) => openssl_probe::probe().cert_file,
        (_, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::pki_types::pem::PemObject;
    use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
    use rustls::{
        ClientConnection, Error, ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme,
        SupportedProtocolVersion, version,
    };

    use super::*;

    const AUTHORITY: &[u8] = include_bytes!("../tests/fixtures/tls/authority.pem");
    const SERVER: &[u8] = include_bytes!("../tests/fixtures/tls/server.pem");

    /// A server is not trusted if its authority is left out.
    #[test]
    fn a_pem_file_is_read_as_rustls_reads_it() {
        let one = str::from_utf8(AUTHORITY).unwrap();
        let other = str::from_utf8(SERVER).unwrap();
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        let system = bundle().map(|path| std::fs::read_to_string(path).unwrap()).unwrap_or_default();
        for (pem, least) in [
            (String::new(), 0),
            (one.to_owned(), 1),
            (one.replace('\n', "\r\n"), 1),
            (format!("# Ă comment\n{one}\n\nsubject=a name\n{key}{other}"), 2),
            (format!("{one}{broken}{other}"), 2),
            (format!("{one}-----BEGIN CERTIFICATE-----\nAAAA\n"), 1),
            (system.clone(), if system.is_empty() { 0 } else { 50 }),
        ] {
            let mut expected = RootCertStore::empty();
            expected.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok));
            assert!(expected.len() >= least, "{pem}");
            assert_eq!(of_pem(pem.as_bytes()).unwrap().roots, expected.roots, "{pem}");
        }
    }

    /// A certificate is public: what makes a server the one that it says it is are the authority, the name and the key.
    #[test]
    fn a_server_is_verified_by_authority_name_and_key() {
        let certificate = |pem| CertificateDer::from_pem_slice(pem).unwrap();
        let mut ours = RootCertStore::empty();
        ours.add(certificate(AUTHORITY)).unwrap();
        for version in [&version::TLS12, &version::TLS13] {
            for (authorities, name, expected) in [
                (&ours, "iam.example.com", "BadSignature"),
                (&ours, "iam.amazonaws.com", "NotValidForName"),
                (&self::authorities().unwrap(), "iam.example.com", "UnknownIssuer"),
                (&RootCertStore::empty(), "iam.example.com", "UnknownIssuer"),
            ] {
                let error = handshake(tls(authorities.clone()), name, version, certificate(SERVER));
                assert!(format!("{error:?}").contains(expected), "{version:?} {name}: {error:?}");
            }
        }
    }

    /// What the client says to a server that has the certificate, and not its key.
    fn handshake(
        client: ClientConfig,
        name: &'static str,
        version: &'static SupportedProtocolVersion,
        certificate: CertificateDer<'static>,
    ) -> Error {
        let resolver = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], Arc::new(Pretender)));
        let server = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(name).unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        loop {
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
            if let Err(error) = client.process_new_packets() {
                return error;
            }
            assert!(client.is_handshaking(), "the client trusts whom it must not");
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
        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
            Ok(vec![0; 70])
        }

        fn scheme(&self) -> SignatureScheme {
            SignatureScheme::ECDSA_NISTP256_SHA256
        }
    }
}
