//! Requests to the Blob service: made, signed, sent, and told apart from refusals.

use object_store::azure::AzureAuthorizer;
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::{Method, Response};

use super::Inner;
use super::failure::{Refusal, no_credentials};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::http::{Ask, encoded};

impl Inner {
    /// About the blob named in full, or the container when it is empty. `query` is encoded already.
    pub(super) fn ask(&self, method: Method, object: &str, query: &str) -> Ask {
        let mut url = self.container.clone();
        if !object.is_empty() {
            url.push('/');
            url.push_str(&encoded(object, true));
        }
        if !query.is_empty() {
            url.push('?');
            url.push_str(query);
        }
        Ask::new(method, url)
    }

    /// Signs and sends. The inner error is the server's own.
    pub(super) async fn call(&self, what: &str, ask: Ask) -> Result<Result<Response, Refusal>> {
        let ask = self.signed(what, ask).await?;
        let is_head = ask.method == Method::HEAD;
        let response = self.http.send(what, ask).await?;
        if response.status().is_success() {
            return Ok(Ok(response));
        }
        let status = response.status().as_u16();
        let code = response.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok()).map(str::to_owned);
        let said = if is_head { bytes::Bytes::new() } else { self.http.said(what, response).await };
        Ok(Err(Refusal::new(status, code, &said)))
    }

    /// The same, where a refusal is a failure.
    pub(super) async fn done(&self, what: &str, ask: Ask) -> Result<Response> {
        self.call(what, ask).await?.map_err(|refusal| self.names.refused(what, &refusal))
    }

    async fn signed(&self, what: &str, mut ask: Ask) -> Result<Ask> {
        let credential = self.credentials.get_credential().await.map_err(|e| no_credentials(what, &e))?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.url.parse().map_err(|_| Error::invalid("endpoint", "is not an address"))?;
        // The signature covers it. A request without a body is signed without one.
        if !ask.body.is_empty() {
            ask.headers.insert("content-length", ask.body.len().into());
        } else if ask.method == Method::PUT {
            ask.headers.insert("content-length", 0.into());
        }
        *request.headers_mut() = ask.headers;
        AzureAuthorizer::new(&credential, &self.account)
            .try_authorize(&mut request)
            .map_err(|e| Error::new(ErrorKind::Failed, format!("{what}: signing the request")).source(e))?;
        let (parts, _) = request.into_parts();
        (ask.url, ask.headers) = (parts.uri.to_string(), parts.headers);
        Ok(ask)
    }
}
