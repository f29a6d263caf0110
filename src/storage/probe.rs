//! Trying a storage while a person watches: find its server, list, write, read, read a range, find and delete a probe object,
//! and upload one in parts.
//!
//! It does what the work does: servers are known that take small objects and refuse every one above a part.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Key, PutMode, Storage, random_name, read_all};
use crate::domain::storage::TestStep;
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};

/// With [`CLEAN_UP`], less than the ten seconds a person is asked to wait for something that does not answer.
const STEP: Duration = Duration::from_secs(7);
const CLEAN_UP: Duration = Duration::from_millis(2_500);
/// For each address of a server.
const CONNECT: Duration = Duration::from_secs(3);
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

/// Lists, writes, reads, finds and deletes a probe object, and one of two parts; `on_step` is called as each step ends. The first
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
        let step = TestStep {
            id: "prepare".into(),
            ok: false,
            detail: detail(&e),
            seconds: 0.0,
            remedy: None,
            hint: hint(&e),
        };
        on_step(&step);
        steps.push(step);
    }
    (steps, failed)
}

/// Whether the server at `url` can be found and answers: its name is resolved, and a connection made, before anything else is
/// blamed. Empty where the way there is not known from here: through a proxy.
///
/// Returns the steps, of which the last may have failed. `on_step` is called as each ends.
pub async fn reach(url: &str, on_step: &(dyn Fn(&TestStep) + Send + Sync)) -> Vec<TestStep> {
    let mut steps = Vec::new();
    let proxies = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    let parsed = reqwest::Url::parse(url).ok();
    let place = parsed.as_ref().and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
    let Some((host, port)) = place.filter(|_| proxies.iter().all(|name| std::env::var_os(name).is_none())) else {
        return steps;
    };
    // As a URL has it, an IPv6 address stands in brackets.
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let resolve = async {
        addresses = tokio::net::lookup_host((name.as_str(), port)).await.map_err(|e| unresolved(&host, &e))?.collect();
        let found: Vec<String> = addresses.iter().take(4).map(|address| address.ip().to_string()).collect();
        match found.is_empty() {
            true => Err(unresolved(&host, &std::io::Error::other("the answer holds no address"))),
            false => Ok(format!("{host} is {}", found.join(", "))),
        }
    };
    let mut note = |step: TestStep, _: Option<ErrorKind>| {
        on_step(&step);
        steps.push(step);
    };
    if step("resolve", STEP, resolve, &mut note).await {
        let connect = async {
            let mut last = None;
            for address in &addresses {
                match timeout(CONNECT, TcpStream::connect(address)).await {
                    Ok(Ok(_)) => return Ok(format!("{address} takes connections")),
                    Ok(Err(e)) => last = Some((address, e.to_string())),
                    Err(_) => last = Some((address, format!("no answer within {} s", CONNECT.as_secs()))),
                }
            }
            let (address, why) = last.map_or_else(Default::default, |(address, why)| (address.to_string(), why));
            Err(Error::new(ErrorKind::Unreachable, format!("{address} cannot be reached: {why}"))
                .hint("is the port right, is the server up, and does a firewall let this machine through?"))
        };
        step("connect", STEP, connect, &mut note).await;
    }
    steps
}

fn unresolved(host: &str, e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unreachable, format!("the name {} cannot be resolved: {e}", text::escape(host)))
        .hint("check how the endpoint is written, and the name servers of this machine")
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
    // Before anything is written: whoever may not list cannot keep backups here.
    let list = async {
        let found: Vec<_> = storage.list(Some(&folder)).await?.try_collect().await?;
        if found.is_empty() { Ok(format!("{} can be listed", storage.place())) } else { Err(changed()) }
    };
    let read = async {
        let found = read_all(storage, &key, body.len() * 2).await?;
        if found != body {
            return Err(changed());
        }
        Ok(format!("{} B, the same bytes", found.len()))
    };
    let range = async {
        let wanted = 10..40_u64;
        let parts: Vec<Bytes> = storage.get(&key, Some(wanted.clone())).await?.try_collect().await?;
        let found = parts.concat();
        if found != body[wanted.start as usize..wanted.end as usize] {
            return Err(changed());
        }
        Ok(format!("bytes {} to {}, the same bytes", wanted.start, wanted.end - 1))
    };
    let find = async {
        let found: Vec<_> = storage.list(Some(&folder)).await?.try_collect().await?;
        match found.as_slice() {
            [one] if one.key == key && one.size == body.len() as u64 => {
                // Collections may differ in nothing else; one would take the place of the other.
                match storage.stat(&folder.join("PROBE")?).await? {
                    None => Ok("the probe is listed".to_owned()),
                    // It refuses the second of two such names.
                    Some(_) if !storage.tells_cases_apart().await? => {
                        Ok("the probe is listed; names that differ only in case are one name here".to_owned())
                    }
                    Some(_) => {
                        Err(Error::new(ErrorKind::Unsupported, "names that differ only in case are one name here")
                            .hint("keep backups on a file system that tells Orders from orders"))
                    }
                }
            }
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

    let ok = step("list", STEP, list, on_step).await
        && step("write", STEP, write, on_step).await
        && step("read", STEP, read, on_step).await
        && step("range", STEP, range, on_step).await
        && step("find", STEP, find, on_step).await
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
    let (detail, failed, hint) = match outcome {
        Ok(detail) => (detail, None, None),
        Err(e) => (detail(&e), Some(e.kind()), hint(&e)),
    };
    let ok = failed.is_none();
    let seconds = began.elapsed().as_secs_f64();
    on_step(TestStep { id: id.into(), ok, detail, seconds, remedy: None, hint }, failed);
    ok
}

fn hint(e: &Error) -> Option<String> {
    e.hint_text().map(str::to_owned)
}

fn detail(e: &Error) -> String {
    match e.hint_text() {
        Some(hint) => format!("{} ({hint})", e.full()),
        None => e.full(),
    }
}
