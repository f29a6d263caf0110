//! Listing objects and unfinished uploads, a page at a time.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::Object;

use super::Inner;
use super::failure::answer;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::paged::{Page, Paged, below};
use crate::storage::{Key, Unfinished};

#[async_trait]
impl Paged for Inner {
    fn base(&self) -> &str {
        &self.base
    }

    fn place(&self) -> &str {
        &self.place
    }

    async fn page(&self, below: &str, folders: bool, token: Option<String>) -> Result<Page> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(below).set_continuation_token(token);
        let list = if folders { list.delimiter("/") } else { list };
        let what = format!("listing s3://{}/{below}", self.bucket);
        let page = list.send().await.map_err(|e| self.names.failure(&what, e))?;
        let next = next_token(&page)?;
        let size = |object: &Object| object.size.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
        let objects = page.contents.unwrap_or_default().into_iter();
        let folders = page.common_prefixes.unwrap_or_default().into_iter();
        Ok(Page {
            objects: objects.filter_map(|mut object| Some((object.key.take()?, size(&object)))).collect(),
            folders: folders.filter_map(|folder| folder.prefix).collect(),
            next,
        })
    }
}

/// Where the next page begins; a server that says there is one but not where would be asked for ever.
fn next_token(page: &ListObjectsV2Output) -> Result<Option<String>> {
    match (page.is_truncated().unwrap_or_default(), page.next_continuation_token()) {
        (false, _) => Ok(None),
        (true, Some(token)) => Ok(Some(token.to_owned())),
        (true, None) => Err(Error::new(ErrorKind::Failed, "the server cut a listing short without a continuation")),
    }
}

/// Aborts the multipart uploads below `prefix` that began `age` ago or earlier.
pub(super) async fn sweep(inner: &Inner, prefix: &Key, age: Duration) -> Result<u64> {
    let below = below(&inner.base, Some(prefix));
    let found = sweep_listed(inner, &below, &below, age).await?;
    // MinIO finds by prefix only the uploads of the object of exactly that name, but lists all without one.
    if found > 0 { Ok(found) } else { sweep_listed(inner, "", &below, age).await }
}

/// Asks for the uploads below `asked` and aborts those below `below`.
async fn sweep_listed(inner: &Inner, asked: &str, below: &str, age: Duration) -> Result<u64> {
    let began_before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    // Our clock and that of the server differ; what has any age goes. One that tells no time is of unknown age.
    let is_old = |initiated: Option<&DateTime>| age.is_zero() || time(initiated).is_some_and(|at| at <= began_before);
    let mut aborted = 0;
    let mut next = Some(Marker::default());
    while let Some(marker) = next.take() {
        // A server that cannot list them has nothing we could end.
        let Some(page) = uploads(inner, asked, marker).await? else { break };
        for upload in page.uploads() {
            if let (Some(object), Some(id)) = (upload.key(), upload.upload_id())
                && object.starts_with(below)
                && is_old(upload.initiated())
            {
                aborted += u64::from(inner.abort(object, id).await?);
            }
        }
        next = Marker::after(&page);
    }
    Ok(aborted)
}

/// The unfinished uploads of all of the storage: at most `most`. `None` where the server does not list them.
pub(super) async fn unfinished(inner: &Inner, most: usize) -> Result<Option<Vec<Unfinished>>> {
    let mut found = Vec::new();
    let mut next = Some(Marker::default());
    while let Some(marker) = next.take() {
        // Without a prefix: see `sweep`.
        let Some(page) = uploads(inner, "", marker).await? else { return Ok(None) };
        for upload in page.uploads() {
            let (Some(object), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
            let Some(key) = object.strip_prefix(&inner.base).and_then(|key| Key::new(key).ok()) else { continue };
            if found.len() >= most {
                return Ok(Some(found));
            }
            let size = uploaded(inner, object, id).await?;
            found.push(Unfinished { key, size, since: time(upload.initiated()) });
        }
        next = Marker::after(&page);
    }
    Ok(Some(found))
}

/// The bytes of the parts of an upload; `None` where the server does not say, or the upload ended meanwhile.
async fn uploaded(inner: &Inner, object: &str, id: &str) -> Result<Option<u64>> {
    let (mut size, mut marker) = (0_u64, None::<String>);
    loop {
        let list = inner.client.list_parts().bucket(&inner.bucket).key(object).upload_id(id);
        let page = match list.set_part_number_marker(marker.clone()).send().await {
            Ok(page) => page,
            Err(e) => {
                return match answer(&e) {
                    Some(a) if a.status == 501 || a.status == 404 || a.code == "NotImplemented" => Ok(None),
                    // The size is only for people: a key that may not ask for it is no reason to say nothing.
                    Some(a) if a.status == 403 => Ok(None),
                    _ => Err(inner.names.failure(&format!("listing the parts of s3://{}/{object}", inner.bucket), e)),
                };
            }
        };
        let parts = page.parts().iter().filter_map(|part| u64::try_from(part.size()?).ok());
        size = parts.fold(size, u64::saturating_add);
        let next = page.next_part_number_marker().filter(|_| page.is_truncated().unwrap_or_default());
        // A server that says there is more and not where would be asked for ever.
        match next {
            Some(next) if marker.as_deref() != Some(next) => marker = Some(next.to_owned()),
            _ => return Ok(Some(size)),
        }
    }
}

/// Where the next page of uploads begins: a key, and an upload of it.
#[derive(Default)]
struct Marker(Option<String>, Option<String>);

impl Marker {
    fn after(page: &ListMultipartUploadsOutput) -> Option<Self> {
        let is_more = page.is_truncated().unwrap_or_default() && page.next_key_marker().is_some();
        is_more
            .then(|| Self(page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned)))
    }
}

/// One page of the uploads below `asked`; `None` where the server does not list them.
async fn uploads(inner: &Inner, asked: &str, Marker(key, id): Marker) -> Result<Option<ListMultipartUploadsOutput>> {
    let list = inner.client.list_multipart_uploads().bucket(&inner.bucket).prefix(asked);
    match list.set_key_marker(key).set_upload_id_marker(id).send().await {
        Ok(page) => Ok(Some(page)),
        Err(e) if answer(&e).is_some_and(|a| a.status == 501 || a.code == "NotImplemented") => Ok(None),
        Err(e) => Err(inner.names.failure(&format!("listing the unfinished uploads of {}", inner.place), e)),
    }
}

fn time(at: Option<&DateTime>) -> Option<SystemTime> {
    at.and_then(|at| SystemTime::try_from(*at).ok())
}
