//! How requests reach an S3 server: timeouts, proxies from the environment, and whom to trust.
//!
//! One TLS library (rustls with aws-lc) for everything. Certificates are checked against the system's store, or
//! against nothing but `ca_file` when one is given, or, when a person insists, not at all.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::config::S3Config;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::line::read_authorities;

pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// A person who watches is told within ten seconds, clean-up included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte of a request to the first of its answer: a whole part on a slow line lies between them.
/// A connection on which nothing moves at all is noticed sooner, by the SDK's stalled stream protection.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// The HTTP client for `config`. Reads `ca_file`.
pub(super) async fn http_client(config: &S3Config) -> Result<SharedHttpClient> {
    if config.insecure_skip_tls_verify {
        let connector = SharedHttpConnector::new(Unverified::new()?);
        return Ok(http_client_fn(move |_, _| connector.clone()));
    }
    let store = match &config.ca_file {
        Some(path) => TrustStore::empty().with_pem_certificate(read_authorities(path).await?),
        // Loading the system's store fails on a machine without one, which matters only where TLS is spoken.
        None if config.endpoint.as_deref().is_some_and(|e| e.starts_with("http://")) => TrustStore::empty(),
        None => TrustStore::default(),
    };
    let context = TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|e| Error::new(ErrorKind::Failed, "setting up TLS").source(e))?;
    Ok(SharedHttpClient::new(Cached { context, connector: OnceLock::new() }))
}

/// Builds its connector once: connections are pooled in it.
struct Cached {
    context: TlsContext,
    connector: OnceLock<SharedHttpConnector>,
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3 HTTP client")
    }
}

impl HttpClient for Cached {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = self.connector.get_or_init(|| {
            let mut builder = Connector::builder()
                .connector_settings(settings.clone())
                .proxy_config(ProxyConfig::from_env())
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(self.context.clone());
            builder.set_sleep_impl(components.sleep_impl());
            SharedHttpConnector::new(builder.build())
        });
        connector.clone()
    }
}

/// Encrypted, but to whom is anybody's guess. The SDK's own connector cannot do this; unlike it, this one knows no
/// proxies.
#[derive(Debug)]
struct Unverified {
    client: Client<HttpsConnector<TcpConnector>, SdkBody>,
}

impl Unverified {
    fn new() -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .map_err(|e| Error::new(ErrorKind::Failed, "setting up TLS").source(e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnector::from((tcp, config));
        Ok(Self { client: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(https) })
    }
}

impl HttpConnector for Unverified {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.client.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
            let response = match tokio::time::timeout(READ_TIMEOUT, client.request(request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(e)) => return Err(ConnectorError::io(e.into())),
                Err(e) => return Err(ConnectorError::timeout(e.into())),
            };
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|e| ConnectorError::other(e.into(), None))
        })
    }
}

/// Takes every certificate, and checks only that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Errors: `Invalid` unless it is the address of a server, without credentials.
pub(super) fn check_endpoint(endpoint: &str) -> Result<&str> {
    let refuse = |why: &str| Err(Error::invalid("endpoint", why).hint("write https://host:port"));
    let rest = match endpoint.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        _ => return refuse("is not an http:// or https:// address"),
    };
    if rest.contains('@') {
        return refuse("holds credentials; give them as access key id and secret access key");
    }
    if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control() || c == '?' || c == '#') {
        return refuse("is not an address");
    }
    Ok(endpoint)
}
