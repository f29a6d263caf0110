//! Trying a storage: write, read, list and delete a probe object, while a person watches.

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

/// Writes, reads, lists and deletes a probe object; `on_step` is called as each step ends. The first step that fails
/// is the last, but the probe is deleted whatever happens. A storage that does not answer is told within 10 s.
pub async fn test(storage: &dyn Storage, on_step: &(dyn Fn(&TestStep) + Send + Sync)) -> Vec<TestStep> {
    let mut steps = Vec::new();
    let outcome = try_out(storage, &mut |step| {
        on_step(&step);
        steps.push(step);
    })
    .await;
    if let Err(e) = outcome {
        let step = TestStep { id: "prepare".into(), ok: false, detail: detail(&e), seconds: 0.0 };
        on_step(&step);
        steps.push(step);
    }
    steps
}

/// Fails only where there is no probe yet.
async fn try_out(storage: &dyn Storage, on_step: &mut (dyn FnMut(TestStep) + Send)) -> Result<()> {
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
            return Err(Error::new(ErrorKind::Corrupt, "what was read is not what was written")
                .hint("something between here and the storage changes objects; do not keep backups there"));
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

    let ok = step("write", write, on_step).await
        && step("read", read, on_step).await
        && step("list", list, on_step).await
        && step("delete", delete, on_step).await;
    if !ok {
        // The failed step says what is wrong; what cannot be deleted either would only say it again.
        let _ = timeout(CLEAN_UP, storage.delete(&key)).await;
    }
    Ok(())
}

async fn step(id: &str, run: impl Future<Output = Result<String>>, on_step: &mut (dyn FnMut(TestStep) + Send)) -> bool {
    let began = Instant::now();
    let outcome = timeout(STEP, run).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Unreachable, format!("no answer within {} s", STEP.as_secs()))
            .hint("check the network between here and the storage, and that the storage is up"))
    });
    let ok = outcome.is_ok();
    let detail = outcome.unwrap_or_else(|e| detail(&e));
    on_step(TestStep { id: id.into(), ok, detail, seconds: began.elapsed().as_secs_f64() });
    ok
}

fn detail(e: &Error) -> String {
    match e.hint_text() {
        Some(hint) => format!("{} ({hint})", e.full()),
        None => e.full(),
    }
}
