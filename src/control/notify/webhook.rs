//! A notice for a web server: posted as JSON, taken when it answers 2xx.
//!
//! The address itself is often a key (its path is, for many chat systems), so only its host is ever named. The secret
//! is read from its file for each notice, is sent over TLS or to this machine alone, and follows no redirect.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::error::{Error, ErrorKind, Result, io};
use crate::store::blocking;

pub const SECRET_HEADER: &str = "X-Mongokeep-Secret";
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(15);
const SECRET_BYTES: u64 = 4096;

pub async fn post_notice(url: &str, secret_file: Option<&Path>, body: Vec<u8>) -> Result<String> {
    let url = Url::parse(url).map_err(|e| Error::invalid("notify.webhook_url", e))?;
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{}://{host}:{port}", url.scheme()),
        (host, _) => format!("{}://{}", url.scheme(), host.unwrap_or_default()),
    };
    let secret = match secret_file {
        Some(_) if !is_private(&url) => {
            return Err(Error::invalid(
                "notify.webhook_secret_file",
                format!("the secret is not sent to {host}: without TLS everybody in between could read it"),
            )
            .hint("use https:// in notify.webhook_url, or take the secret away"));
        }
        Some(file) => {
            let file = file.to_owned();
            Some(blocking(move || read_secret(&file)).await?)
        }
        None => None,
    };
    let mut request = client(&url)?.post(url).header(CONTENT_TYPE, "application/json").body(body);
    if let Some(secret) = secret {
        request = request.header(SECRET_HEADER, secret);
    }
    let answer = request.send().await.map_err(|e| {
        Error::new(ErrorKind::Unreachable, format!("the webhook {host} did not answer")).source(e.without_url())
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(format!("{host} answered {}", status.as_u16()));
    }
    // What it says is not repeated: it may hold what it was sent.
    let error = Error::new(ErrorKind::Failed, format!("the webhook {host} answered {status}"));
    Err(if status.is_redirection() { error.hint("redirects are not followed: give the address itself") } else { error })
}

fn client(url: &Url) -> Result<Client> {
    // The one TLS library of this program; it is no error when it was chosen before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .timeout(LIMIT)
        .redirect(Policy::none())
        .user_agent(concat!("mongokeep/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // Reading the system's authorities fails on a machine without any, which matters only where TLS is spoken. And a
        // proxy of the environment would read the secret, and be asked for this machine, which it does not know.
        builder = builder.tls_certs_only([]).no_proxy();
    }
    builder.build().map_err(|e| Error::new(ErrorKind::Failed, "setting up the webhook").source(e))
}

fn is_private(url: &Url) -> bool {
    let this_machine = url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    url.scheme() == "https" || this_machine
}

fn read_secret(file: &Path) -> Result<HeaderValue> {
    let key = "notify.webhook_secret_file";
    let shown = crate::domain::text::escape(&file.display().to_string());
    let metadata = fs::metadata(file).map_err(|e| io(format!("{key}: {shown}"), e))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::invalid(key, format!("{shown} can be read by others (mode {mode:04o})"))
            .hint(format!("chmod 600 {shown}")));
    }
    if metadata.len() > SECRET_BYTES {
        return Err(Error::invalid(key, format!("{shown} has more than {SECRET_BYTES} bytes")));
    }
    let text = fs::read(file).map_err(|e| io(format!("{key}: {shown}"), e))?;
    let mut value = HeaderValue::from_bytes(text.trim_ascii())
        .map_err(|_| Error::invalid(key, format!("{shown} holds something that cannot stand in a header")))?;
    if value.is_empty() {
        return Err(Error::invalid(key, format!("{shown} is empty")));
    }
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_private_or_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        fs::write(&file, "hunter2\n").unwrap();
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        let error = read_secret(&file).unwrap_err();
        assert!(error.full().contains("mode 0644") && !error.full().contains("hunter2"), "{error}");
        mode(0o600);
        let value = read_secret(&file).unwrap();
        assert_eq!(value, "hunter2");
        assert!(!format!("{value:?}").contains("hunter2"));
        fs::write(&file, "a\nb").unwrap();
        assert!(read_secret(&file).is_err());
        fs::write(&file, "\n").unwrap();
        assert!(read_secret(&file).unwrap_err().full().contains("is empty"));
        for (url, private) in [
            ("https://hooks.example.com/x", true),
            ("http://127.0.0.1:9/x", true),
            ("http://[::1]/x", true),
            ("http://localhost/x", true),
            ("http://10.0.0.1/x", false),
            ("http://127.0.0.1.example.com/x", false),
        ] {
            assert_eq!(is_private(&Url::parse(url).unwrap()), private, "{url}");
        }
    }

    #[tokio::test]
    async fn nothing_that_fails_names_more_than_the_host() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/hooks/T0KEN?key=s3cret");
        let error = post_notice(&url, None, vec![]).await.unwrap_err();
        assert!(error.is_retryable());
        let said = format!("{error:?}");
        assert!(said.contains(&format!("http://127.0.0.1:{port} did not answer")), "{said}");
        assert!(!said.contains("T0KEN") && !said.contains("s3cret"), "{said}");
    }
}
