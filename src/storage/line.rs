//! The way to a storage behind a network: whom it trusts, and in our words what broke off on it.
//!
//! What a server itself refuses is the business of its backend.

use std::error::Error as StdError;
use std::fmt;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};

/// Reads and checks a PEM file of certificates, so that no library stumbles over it.
pub(super) async fn read_authorities(path: &str) -> Result<Vec<u8>> {
    let shown = text::escape(path);
    let pem = tokio::fs::read(path).await.map_err(|e| {
        Error::invalid("ca-file", format!("cannot read {shown}")).source(e).hint("give the path of a PEM file")
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let refuse = |why: &dyn fmt::Display| {
            Error::invalid("ca-file", format!("{shown} holds something that is not a certificate: {why}"))
        };
        roots.add(certificate.map_err(|e| refuse(&e))?).map_err(|e| refuse(&e))?;
    }
    if roots.is_empty() {
        return Err(Error::invalid("ca-file", format!("{shown} holds no certificate"))
            .hint("a PEM file has lines -----BEGIN CERTIFICATE-----"));
    }
    Ok(pem)
}

/// A request to `server`, or its answer, that broke off or never began. `what` was being done.
pub(super) fn broken(server: &str, what: &str, error: &(dyn StdError + 'static)) -> Error {
    if let Some(error) = find::<rustls::Error>(error) {
        return tls(server, what, error);
    }
    let why = root_cause(error);
    Error::new(ErrorKind::Unreachable, format!("{what}: cannot reach {server}: {why}"))
        .hint("check the endpoint, and the network between here and it")
}

/// A request that `server` did not answer within its time.
pub(super) fn no_answer(server: &str, what: &str) -> Error {
    Error::new(ErrorKind::Unreachable, format!("{what}: {server} did not answer in time"))
        .hint("check the endpoint, and the network between here and it")
}

fn tls(server: &str, what: &str, error: &rustls::Error) -> Error {
    let (why, hint) = match error {
        rustls::Error::InvalidCertificate(_) => (
            "its certificate is not trusted",
            "give --ca-file the PEM file of the authority that signed it; --insecure-skip-tls-verify is for trials only",
        ),
        rustls::Error::InvalidMessage(_) => {
            ("it does not speak TLS", "an endpoint without TLS begins with http://, not https://")
        }
        _ => ("TLS failed", "check the endpoint's certificate and TLS versions; see also --ca-file"),
    };
    Error::new(ErrorKind::Failed, format!("{what}: {server}: {why}: {error}")).hint(hint)
}

/// Walks causes; an I/O error hides its payload from `source`.
pub(super) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| match e.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => e.source(),
    })
}

pub(super) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    causes(error).find_map(|e| e.downcast_ref::<E>())
}

/// The last cause says it best: `Connection refused`, `failed to lookup address`.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(|e| text::escape(&e.to_string())).unwrap_or_default()
}
