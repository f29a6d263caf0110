//! Multipart uploads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::Inner;
use super::checksum::{self, PartSum};
use super::failure::answer;
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Key, Upload, random_name};

/// S3's own bound.
const MAX_PARTS: u32 = 10_000;
/// Names the upload an object came from, so that a repeated `finish` can recognise its own work.
const MARK: &str = "mongokeep-upload";

pub(super) struct S3Upload {
    inner: Arc<Inner>,
    key: Key,
    id: String,
    mark: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By number from 0.
    parts: BTreeMap<u32, Part>,
    finished: bool,
}

struct Part {
    /// What S3 wants to hear again at the end.
    completed: CompletedPart,
    length: usize,
    sum: Option<PartSum>,
}

impl S3Upload {
    pub(super) async fn begin(inner: Arc<Inner>, key: &Key) -> Result<Self> {
        let mark = random_name()?;
        let what = inner.what("beginning an upload of", key);
        let create = inner.client.create_multipart_upload().bucket(&inner.bucket).key(inner.object(key));
        let create = create.set_checksum_algorithm(inner.proof.algorithm());
        let create =
            create.set_storage_class(inner.storage_class.clone()).set_server_side_encryption(inner.sse.clone());
        let create = with_key!(create.set_ssekms_key_id(inner.sse_kms_key_id.clone()), inner);
        let output = create.metadata(MARK, &mark).send().await.map_err(|e| inner.names.failure(&what, e))?;
        let Some(id) = output.upload_id().map(str::to_owned) else {
            return Err(Error::new(ErrorKind::Failed, format!("{what}: the server gave it no id")));
        };
        Ok(Self { inner, key: key.clone(), id, mark, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of `0..parts`, in order, and their checksums where they have some; all parts but the last are full.
    fn completed(&self, parts: u32) -> Result<(Vec<CompletedPart>, Option<Vec<PartSum>>)> {
        let state = self.state();
        let whole = state.parts.keys().copied().eq(0..parts)
            && state.parts.range(..parts.saturating_sub(1)).all(|(_, part)| part.length == self.inner.part_size);
        if !whole {
            let what = self.inner.what("finishing", &self.key);
            return Err(Error::new(ErrorKind::Internal, format!("{what}: parts are missing")));
        }
        let completed = state.parts.values().map(|part| part.completed.clone()).collect();
        Ok((completed, state.parts.values().map(|part| part.sum).collect()))
    }

    /// Whether the object that is there came from this upload: the answer to an earlier `finish` may have been lost.
    async fn is_there(&self) -> Result<bool> {
        let head = self.inner.head(&self.key).await?;
        Ok(head.is_some_and(|h| h.metadata().and_then(|m| m.get(MARK)).is_some_and(|mark| *mark == self.mark)))
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        let (inner, key) = (&self.inner, &self.key);
        let what = || inner.what(&format!("writing part {} of", number + 1), key);
        if number >= MAX_PARTS {
            let most = text::bytes(u64::from(MAX_PARTS) * inner.part_size as u64);
            return Err(Error::new(ErrorKind::Unsupported, format!("{}: an object has at most {most}", what())));
        }
        let length = body.len();
        let sums = inner.proof.of(&body);
        // S3 counts from 1, and 10,000 fits.
        let s3_number = (number + 1) as i32;
        let part = inner.client.upload_part().bucket(&inner.bucket).key(inner.object(key)).upload_id(&self.id);
        let part = part.part_number(s3_number).set_checksum_crc32(sums.crc32()).set_content_md5(sums.md5());
        let part = with_key!(part.body(ByteStream::from(body)), inner);
        let output = part.send().await.map_err(|e| inner.names.failure(&what(), e))?;
        if output.checksum_crc32().is_some_and(|told| sums.crc32().is_some_and(|sent| sent != told)) {
            return Err(checksum::differs(&what(), ErrorKind::Transient));
        }
        let completed = CompletedPart::builder()
            .part_number(s3_number)
            .set_e_tag(output.e_tag().map(str::to_owned))
            .set_checksum_crc32(sums.crc32())
            .build();
        self.state().parts.insert(number, Part { completed, length, sum: sums.of_part(length) });
        Ok(())
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        if self.state().finished {
            return Ok(());
        }
        let (inner, key) = (&self.inner, &self.key);
        let (completed, sums) = self.completed(parts)?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(completed)).build();
        let complete = inner.client.complete_multipart_upload().bucket(&inner.bucket).key(inner.object(key));
        match with_key!(complete.upload_id(&self.id).multipart_upload(parts), inner).send().await {
            Ok(output) => {
                if let (Some(told), Some(sums)) = (output.checksum_crc32(), &sums)
                    && !checksum::agrees(told, sums)
                {
                    // Another finish would find the object of this one, and be content with it.
                    return Err(checksum::differs(&inner.what("finishing", key), ErrorKind::Corrupt));
                }
            }
            Err(e) if answer(&e).is_some_and(|a| a.code == "NoSuchUpload") && self.is_there().await? => {}
            Err(e) => return Err(inner.names.failure(&inner.what("finishing", key), e)),
        }
        self.state().finished = true;
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        if self.state().finished {
            return Ok(());
        }
        self.inner.abort(&self.inner.object(&self.key), &self.id).await.map(drop)
    }
}

impl Inner {
    /// Ends a multipart upload of the object named in full; false when there was none.
    pub(super) async fn abort(&self, object: &str, id: &str) -> Result<bool> {
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(object).upload_id(id);
        match abort.send().await {
            Ok(_) => Ok(true),
            Err(e) if answer(&e).is_some_and(|a| matches!(a.code, "NoSuchUpload" | "NoSuchKey")) => Ok(false),
            // What a server cannot end nobody can, and it holds up nothing else that is to be removed.
            Err(e) if answer(&e).is_some_and(|a| matches!(a.status, 405 | 501)) => {
                tracing::warn!("{} does not end unfinished uploads; {} keeps one", self.names.server, self.place);
                Ok(false)
            }
            Err(e) => {
                let what = format!("removing the unfinished upload of s3://{}/{}", self.bucket, text::escape(object));
                Err(self.names.failure(&what, e))
            }
        }
    }
}
