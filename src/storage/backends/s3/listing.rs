//! Listing objects and unfinished uploads, a page at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::Inner;
use super::failure::answer;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Key, MOST_FOLDERS, ObjectInfo, Unfinished, too_many_folders};

impl Inner {
    /// What the full keys below `prefix` begin with: empty, or ending in a slash.
    fn below(&self, prefix: Option<&Key>) -> String {
        match prefix {
            Some(prefix) => format!("{}{prefix}/", self.base),
            None => self.base.clone(),
        }
    }

    async fn page(&self, below: &str, folders: bool, token: Option<String>) -> Result<ListObjectsV2Output> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(below).set_continuation_token(token);
        let list = if folders { list.delimiter("/") } else { list };
        let what = format!("listing s3://{}/{below}", self.bucket);
        list.send().await.map_err(|e| self.names.failure(&what, e))
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

/// Where a listing stands between two pages.
enum Next {
    Page(Box<ListObjectsV2Output>),
    Ask(String),
}

/// All objects below `prefix`; memory: one page of at most 1,000.
pub(super) async fn objects(
    inner: &Arc<Inner>,
    prefix: Option<&Key>,
) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
    let below = inner.below(prefix);
    // The first page is fetched here, so that a bucket that is not there fails the call.
    let first = inner.page(&below, false, None).await?;
    let inner = Arc::clone(inner);
    let pages = stream::try_unfold(Some(Next::Page(Box::new(first))), move |next| {
        let (inner, below) = (Arc::clone(&inner), below.clone());
        async move {
            let page = match next {
                None => return Ok::<_, Error>(None),
                Some(Next::Page(page)) => *page,
                Some(Next::Ask(token)) => inner.page(&below, false, Some(token)).await?,
            };
            let next = next_token(&page)?.map(Next::Ask);
            let objects = page.contents.unwrap_or_default().into_iter().filter_map(|object| {
                // A key that is not ours to name (`folder/`, `a//b`) is not ours.
                let key = Key::new(object.key.as_deref()?.strip_prefix(&inner.base)?).ok()?;
                let size = object.size.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
                Some(Ok(ObjectInfo { key, size }))
            });
            Ok(Some((stream::iter(objects.collect::<Vec<_>>()), next)))
        }
    });
    Ok(pages.try_flatten().boxed())
}

/// The names of the folders directly below `prefix`; memory: these, and not the objects beside them.
pub(super) async fn folders(inner: &Inner, prefix: Option<&Key>) -> Result<Vec<String>> {
    let below = inner.below(prefix);
    let mut names = BTreeSet::new();
    let mut token = None;
    loop {
        let page = inner.page(&below, true, token).await?;
        for full in page.common_prefixes().iter().filter_map(|p| p.prefix()?.strip_suffix('/')) {
            if let Some(name) = full.strip_prefix(&below)
                && Key::new(name).is_ok()
            {
                names.insert(name.to_owned());
            }
        }
        if names.len() > MOST_FOLDERS {
            return Err(too_many_folders(&format!("s3://{}/{below}", inner.bucket)));
        }
        token = next_token(&page)?;
        if token.is_none() {
            return Ok(names.into_iter().collect());
        }
    }
}

/// Aborts the multipart uploads below `prefix` that began `age` ago or earlier.
pub(super) async fn sweep(inner: &Inner, prefix: &Key, age: Duration) -> Result<u64> {
    let below = inner.below(Some(prefix));
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
