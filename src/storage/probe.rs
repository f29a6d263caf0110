//! Trying a storage: write, read, list and delete a probe object, and upload one in parts, while a person watches.
//!
//! It does what the work does: servers are known that take small objects and refuse every one above a part.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::time::{Instant, timeout};

use super::{Key, PutMode, Storage, random_name, read_all};
use crate::domain::storage::TestStep;
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};

/// With [`CLEAN_UP`], less than the ten seconds a person is asked to wait for something that does not answer.
const STEP: Duration = Duration::from_secs(7);
const CLEAN_UP: Duration = Duration::from_millis(2_500);
/// The same for a probe of more than one part. By then the storage has answered several times, and a slow line needs its
/// time for a part.
const PARTS_STEP: Duration = Duration::from_secs(60);

/// Whether a server takes one small object and one of two parts, which is what goes wrong with checksums. Leaves nothing.
pub(crate) async fn takes_both(storage: &dyn Storage) -> Result<()> {
    let folder = Key::new(format!(".mongokeep-probe-{}", random_name()?))?;
    let key = folder.join("probe")?;
    let work = async {
        storage
            .put(
                &key,
                Bytes::from_static(b"mongokeep tests this storage; this object may be deleted\n"),
                PutMode::CreateNew,
            )
            .await?;
        parts(storage, &folder).await.map(drop)
    };
    let outcome = timeout(PARTS_STEP, work).await.unwrap_or_else(|_| Err(no_answer(PARTS_STEP)));
    remove(storage, &folder).await;
    outcome
}

/// Writes, reads, lists and deletes a probe object, and one of two parts; `on_step` is called as each step ends. The first
/// step that fails is the last, but the probes are deleted whatever happens. A storage that does not answer is told within
/// 10 s.
pub async fn test(storage: &dyn Storage, on_step: &(dyn Fn(&TestStep) + Send + Sync)) -> Vec<TestStep> {
    test_and_judge(storage, on_step).await.0
}

/// The same, and of what sort the failure is, if there is one.
pub async fn test_and_judge(
    storage: &dyn Storage,
    on_step: &(dyn Fn(&TestStep) + Send + Sync),
) -> (Vec<TestStep>, Option<ErrorKind>) {
    let (mut steps, mut failed) = (Vec::new(), None);
    let outcome = try_out(storage, &mut |step, kind| {
        on_step(&step);
        steps.push(step);
        failed = kind;
    })
    .await;
    if let Err(e) = outcome {
        failed = Some(e.kind());
        let step = TestStep { id: "prepare".into(), ok: false, detail: detail(&e), seconds: 0.0, remedy: None };
        on_step(&step);
        steps.push(step);
    }
    (steps, failed)
}

/// Hears of a step, and of what sort its failure is.
type OnStep<'a> = &'a mut (dyn FnMut(TestStep, Option<ErrorKind>) + Send);

/// Fails only where there is no probe yet.
async fn try_out(storage: &dyn Storage, on_step: OnStep<'_>) -> Result<()> {
    let folder = Key::new(format!(".mongokeep-probe-{}", random_name()?))?;
    let key = folder.join("probe")?;
    let body = Bytes::from(format!("mongokeep tests this storage; this object may be deleted\n{folder}\n"));

    let write = async {
        storage.put(&key, body.clone(), PutMode::CreateNew).await?;
        let free = storage.free_space().await?;
        Ok(free.map_or_else(|| format!("{} B", body.len()), |n| format!("{} B, {} free", body.len(), text::bytes(n))))
    };
    let read = async {
        let found = read_all(storage, &key, body.len() * 2).await?;
        if found != body {
            return Err(changed());
        }
        Ok(format!("{} B, the same bytes", found.len()))
    };
    let list = async {
        let found: Vec<_> = storage.list(Some(&folder)).await?.try_collect().await?;
        match found.as_slice() {
            [one] if one.key == key && one.size == body.len() as u64 => Ok("the probe is listed".to_owned()),
            _ => Err(Error::new(ErrorKind::Failed, "the probe is not in the listing")
                .hint("mongokeep finds backups by listing; a storage that lists late or wrongly cannot keep them")),
        }
    };
    let delete = async {
        storage.delete(&key).await?;
        match storage.stat(&key).await? {
            None => Ok("the probe is gone".to_owned()),
            Some(_) => Err(Error::new(ErrorKind::Failed, "the probe is still there after it was deleted")
                .hint("check retention and object lock of the bucket: backups could not be deleted")),
        }
    };

    let ok = step("write", STEP, write, on_step).await
        && step("read", STEP, read, on_step).await
        && step("list", STEP, list, on_step).await
        && step("parts", PARTS_STEP, parts(storage, &folder), on_step).await
        && step("delete", STEP, delete, on_step).await;
    if !ok {
        remove(storage, &folder).await;
    }
    Ok(())
}

/// What is left of a probe. The failed step says what is wrong; what cannot be deleted either would only say it again.
async fn remove(storage: &dyn Storage, folder: &Key) {
    let work = async {
        for name in ["probe", "parts"] {
            storage.delete(&folder.join(name)?).await?;
        }
        storage.sweep(folder).await
    };
    let _ = timeout(CLEAN_UP, work).await;
}

/// Uploads an object of a whole part and a short one, as every larger object of a backup is, and reads it back.
async fn parts(storage: &dyn Storage, folder: &Key) -> Result<String> {
    let key = folder.join("parts")?;
    let first = storage.part_size();
    let mut body = vec![0; first + 100];
    // Nothing a line or a disk could make smaller.
    blake3::Hasher::new().update(folder.as_str().as_bytes()).finalize_xof().fill(&mut body);
    let body = Bytes::from(body);
    let upload = storage.upload(&key).await?;
    let written = async {
        upload.part(0, body.slice(..first)).await?;
        upload.part(1, body.slice(first..)).await?;
        upload.finish(2).await
    };
    if let Err(e) = written.await {
        let _ = timeout(CLEAN_UP, upload.abort()).await;
        return Err(e);
    }
    let found = read_all(storage, &key, body.len() * 2).await?;
    if found != body {
        return Err(changed());
    }
    storage.delete(&key).await?;
    Ok(format!("{} in 2 parts, the same bytes", text::bytes(body.len() as u64)))
}

fn changed() -> Error {
    Error::new(ErrorKind::Corrupt, "what was read is not what was written")
        .hint("something between here and the storage changes objects; do not keep backups there")
}

fn no_answer(limit: Duration) -> Error {
    Error::new(ErrorKind::Unreachable, format!("no answer within {} s", limit.as_secs()))
        .hint("check the network between here and the storage, and that the storage is up")
}

async fn step(id: &str, limit: Duration, run: impl Future<Output = Result<String>>, on_step: OnStep<'_>) -> bool {
    let began = Instant::now();
    let outcome = timeout(limit, run).await.unwrap_or_else(|_| Err(no_answer(limit)));
    let (detail, failed) = match outcome {
        Ok(detail) => (detail, None),
        Err(e) => (detail(&e), Some(e.kind())),
    };
    let ok = failed.is_none();
    on_step(TestStep { id: id.into(), ok, detail, seconds: began.elapsed().as_secs_f64(), remedy: None }, failed);
    ok
}

fn detail(e: &Error) -> String {
    match e.hint_text() {
        Some(hint) => format!("{} ({hint})", e.full()),
        None => e.full(),
    }
}
