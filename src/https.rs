//! HTTPS as IAM speaks it: HTTP/1.1 over TLS with ring, trusting the system's certificate authorities.
//!
//! The SDK has a connector of its own, which costs a cold start a quarter of its time and the binary an HTTP/2
//! implementation that nothing uses: see `docs/speed.md`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// Makes requests over connections that it keeps.
#[derive(Clone, Debug)]
pub struct Https(Client<HttpsConnector<connect::HttpConnector>, SdkBody>);

impl Https {
    /// A connector whose TCP connections are made within `connect_timeout`, or not at all.
    pub fn new(connect_timeout: Duration) -> Self {
        let mut tcp = connect::HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring's default provider has the cipher suites of TLS 1.2 and 1.3")
            .with_root_certificates(authorities())
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
    use super::*;

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
