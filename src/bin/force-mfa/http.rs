//! The way to AWS: the proxy and the certificate authorities, taken from the same variables as the AWS CLI takes them.
//!
//! <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-proxy.html>,
//! <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-envvars.html>

use std::fs;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{CliError, error_chain};

/// The longest time for a connection: TCP, the proxy and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The connector of all clients. It uses `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`. It trusts the
/// authorities in the file that `AWS_CA_BUNDLE` names, else those in `ca_bundle` of the profile, else those of the
/// system or `SSL_CERT_FILE`.
///
/// # Errors
/// If the file of authorities cannot be used.
pub fn connector(ca_bundle_of_profile: Option<&str>) -> Result<SharedHttpConnector, CliError> {
    let variable = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
    let bundle = match (variable, ca_bundle_of_profile) {
        (Some(path), _) => Some(("AWS_CA_BUNDLE", path)),
        (None, Some(path)) => Some(("ca_bundle of the profile", path.into())),
        (None, None) => None,
    };
    let mut tls = TlsContext::builder();
    if let Some((name, path)) = bundle {
        let pem = fs::read(&path).map_err(|error| error.to_string()).and_then(usable);
        let pem = pem.map_err(|why| CliError::Usage(format!("{name} is {}: {why}", path.display())))?;
        // As the AWS CLI does, we trust these and no others.
        tls = tls.with_trust_store(TrustStore::empty().with_pem_certificate(pem));
    }
    let tls = tls.build().map_err(|error| CliError::Failed(error_chain(&error)))?;
    let connector = Connector::builder()
        .proxy_config(ProxyConfig::from_env())
        .connector_settings(HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build();
    Ok(SharedHttpConnector::new(connector))
}

/// Checks what the connector takes for granted. Without this, it would panic on a file that is not of this kind.
fn usable(pem: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("it is not a PEM file of certificates ({error:?})"))?;
        store.add(certificate).map_err(|error| format!("one of its certificates cannot be used ({error})"))?;
    }
    if store.is_empty() { Err("it has no certificate in PEM format".to_owned()) } else { Ok(pem) }
}
