//! What a bucket keeps of what was deleted: old versions, and objects that are locked until a day.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockLegalHoldStatus};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use chrono::{DateTime, Utc};

use super::Inner;
use super::failure::answer;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Freeing, Key, OldVersions};

/// What the key may not be asked, or the server does not know, is not said.
fn is_unsaid<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    answer(error).is_some_and(|a| matches!(a.status, 400 | 403 | 404 | 405 | 501))
}

/// Whether a deletion of the object frees its bytes. `None`: the server does not say.
pub(super) async fn freeing(inner: &Inner, key: &Key) -> Result<Option<Freeing>> {
    let what = format!("asking for the versions of s3://{}", inner.bucket);
    let versions = match inner.client.get_bucket_versioning().bucket(&inner.bucket).send().await {
        // Suspended: those that were kept before stay, and what has no version yet is replaced by its marker.
        Ok(output) => output.status() == Some(&BucketVersioningStatus::Enabled),
        Err(e) if is_unsaid(&e) => return Ok(None),
        Err(e) => return Err(inner.names.failure(&what, e)),
    };
    let head = inner.head(key).await?;
    let mut until = head.as_ref().and_then(|head| head.object_lock_retain_until_date()).map(aws_seconds);
    if let (None, true, Some(head)) = (until, versions, &head) {
        until = until_asked(inner, key, &what, head.last_modified().map(aws_seconds)).await?;
    }
    let hold = head.as_ref().and_then(|head| head.object_lock_legal_hold_status());
    Ok(Some(Freeing {
        versions,
        locked_until: until.and_then(|at| DateTime::<Utc>::from_timestamp(at, 0)).filter(|at| *at > Utc::now()),
        legal_hold: hold == Some(&ObjectLockLegalHoldStatus::On),
    }))
}

fn aws_seconds(at: &aws_sdk_s3::primitives::DateTime) -> i64 {
    at.secs()
}

/// Until when the object is kept, of a server that does not send this with it: its own retention, or the one of the bucket, which
/// versitygw 1.8.0 obeys without giving it to the object. Seconds since 1970.
async fn until_asked(inner: &Inner, key: &Key, what: &str, written: Option<i64>) -> Result<Option<i64>> {
    let asked = inner.client.get_object_retention().bucket(&inner.bucket).key(inner.object(key)).send().await;
    match asked {
        Ok(output) => {
            let until = output.retention().and_then(|retention| retention.retain_until_date());
            if until.is_some() {
                return Ok(until.map(aws_seconds));
            }
        }
        Err(e) if is_unsaid(&e) => {}
        Err(e) => return Err(inner.names.failure(what, e)),
    }
    match inner.client.get_object_lock_configuration().bucket(&inner.bucket).send().await {
        Ok(output) => {
            let rule = output.object_lock_configuration().and_then(|lock| lock.rule());
            let kept = rule.and_then(|rule| rule.default_retention());
            let days = kept.and_then(|kept| kept.days().or(kept.years().map(|years| years.saturating_mul(365))));
            Ok(written.zip(days).map(|(written, days)| written.saturating_add(i64::from(days) * 86_400)))
        }
        Err(e) if is_unsaid(&e) => Ok(None),
        Err(e) => Err(inner.names.failure(what, e)),
    }
}

/// Counts what lies below the prefix and is not the present object. `None`: the server does not say, or keeps none.
pub(super) async fn old(inner: &Inner) -> Result<Option<OldVersions>> {
    let what = format!("listing the old versions of s3://{}/{}", inner.bucket, inner.base);
    match inner.client.get_bucket_versioning().bucket(&inner.bucket).send().await {
        // One that never had versions has no old ones.
        Ok(output) if output.status().is_none() => return Ok(None),
        Ok(_) => {}
        Err(e) if is_unsaid(&e) => return Ok(None),
        Err(e) => return Err(inner.names.failure(&what, e)),
    }
    let mut old = OldVersions::default();
    let (mut key, mut version) = (None::<String>, None::<String>);
    loop {
        let list = inner.client.list_object_versions().bucket(&inner.bucket).prefix(&inner.base);
        let list = list.set_key_marker(key.clone()).set_version_id_marker(version.clone());
        let page = match list.send().await {
            Ok(page) => page,
            Err(e) if is_unsaid(&e) => return Ok(None),
            Err(e) => return Err(inner.names.failure(&what, e)),
        };
        for object in page.versions().iter().filter(|object| object.is_latest() != Some(true)) {
            old.versions += 1;
            old.bytes = old.bytes.saturating_add(object.size().and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
        }
        old.markers += page.delete_markers().len() as u64;
        if page.is_truncated() != Some(true) {
            return Ok(Some(old));
        }
        let next = (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
        if next.0.is_none() || next == (key.clone(), version.clone()) {
            return Err(Error::new(ErrorKind::Failed, format!("{what}: the server does not say where it goes on")));
        }
        (key, version) = next;
    }
}
