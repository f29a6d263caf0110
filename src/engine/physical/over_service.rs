//! A physical backup in the place of a running service's data.
//!
//! Everything that can fail is done first, beside the data of the service while it goes on: files are fetched, recovered and
//! looked at. Then the service is stopped, its files are set aside, and the new ones take their place. The old ones are put
//! back unless the restored server answers.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::exchange::{self, Exchange, Stage};
use super::mongod;
use super::over_plan::{self, Ready};
use super::plan;
use super::restore::{fill, logs_bytes, must_fit, with_hint};
use super::service_commands::{self, ServiceCommands};
use super::target_folder::TargetFolder;
use crate::domain::restore::RestorePlan;
use crate::domain::service::Service;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::blocking::blocking;
use crate::engine::contract::{BeforeWriting, Confirmed, RestoreReport, RestoreSource};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::connect::CHECK_TIMEOUT;

/// Restores `source` over the service of a plan that was confirmed.
///
/// Errors: as [`crate::engine::contract::Engine::restore`]. After any of them the service has its own data, or the hint says
/// what is left to do.
pub(super) async fn restore(
    ctx: &Context,
    source: RestoreSource,
    service: &Service,
    confirmed: Confirmed<'_>,
    writes: &(dyn BeforeWriting + '_),
) -> Result<RestoreReport> {
    confirmed.plan.must_be_ours()?;
    let planned = confirmed.plan.files.as_ref();
    let planned = planned.ok_or_else(|| Error::new(ErrorKind::Internal, "a plan of files without files"))?;
    let present = over_plan::look(service, &ctx.cancel).await?;
    let manifest = plan::recoverable(&source)?;
    over_plan::same_series(&manifest, &present, service)?;
    let ready = match over_plan::ready(&manifest, service, confirmed.request, present).await? {
        Ok(ready) => ready,
        Err((why, _)) => {
            let what = format!("service {} is no longer as it was planned: {why}", service.name);
            return Err(Error::new(ErrorKind::Conflict, what).hint("nothing was written; make the plan again"));
        }
    };
    if ready.folder != Path::new(&planned.dir) || ready.prepared.members != planned.members {
        let what = format!("service {} has another data folder or another member than planned", service.name);
        return Err(Error::new(ErrorKind::Conflict, what).hint("nothing was written; make the plan again"));
    }
    must_fit(&source, &ready.prepared)?;
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    writes.before_writing().await?;
    let name = ready.prepared.manifest.name.clone();
    let (folder, attempt) = (ready.folder.clone(), confirmed.attempt_id.to_owned());
    let exchange = blocking("making a folder", move || Exchange::claim(&folder, &attempt, &name)).await?;
    match carry_out(ctx, &source, service, &ready, confirmed, exchange.clone()).await {
        Ok(until) => {
            ctx.meter.info(format!("{} is at {}", service.name, until.in_words()));
            finish(ctx, exchange).await;
            may_log_in(ctx, service).await;
            Ok(RestoreReport { namespaces: 0, documents: 0, operations: 0, left_out: Vec::new() })
        }
        Err(error) => {
            // A cancel makes many things fail; what counts is that a person asked for it.
            let error = if ctx.cancel.is_cancelled() { Error::cancelled() } else { error };
            ctx.meter.set_phase("undoing what was done");
            let server = (service, ready.address.as_str(), ready.prepared.replica_set.as_str());
            let undone = async {
                // How far it came is asked of the disk, as after a kill.
                let (folder, attempt) = (ready.folder.clone(), confirmed.attempt_id.to_owned());
                let left = blocking("looking at a data folder", move || Exchange::left(&folder, &attempt)).await?;
                undo(left.unwrap_or(exchange), &ready.commands, server, &|text| ctx.meter.warn(text)).await
            };
            Err(match undone.await {
                Ok(done) => with_hint(error, &done),
                Err(left) => with_hint(error, &in_one(&left)),
            })
        }
    }
}

async fn carry_out(
    ctx: &Context,
    source: &RestoreSource,
    service: &Service,
    ready: &Ready,
    confirmed: Confirmed<'_>,
    exchange: Exchange,
) -> Result<Timestamp> {
    let Ready { commands, folder, address, prepared, .. } = ready;
    let (dir, attempt, name) = (prepared.dir.clone(), confirmed.attempt_id.to_owned(), prepared.manifest.name.clone());
    let target = blocking("marking a folder", move || TargetFolder::claim(&dir, &attempt, &name)).await?;
    // The server that is started reads its logs once more.
    let after = logs_bytes(source, &prepared.manifest).max(1);
    let until = fill(ctx, source, prepared, confirmed, after).await?;
    blocking("giving files to their owner", move || target.finish()).await?;
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    ctx.meter.info(format!("stopping {}: {}", service.name, escape(&commands.stop)));
    let exchange = blocking("noting a stop", move || exchange.stopping()).await?;
    let stopping = commands.stop(folder, confirmed.attempt_id, &ctx.cancel);
    let lock = ctx.meter.step(&format!("stopping {}", service.name), stopping).await?;
    let exchanging = blocking("exchanging files", move || exchange.put_in(&lock));
    ctx.meter.step("exchanging the files", exchanging).await?;
    ctx.meter.info(format!("starting {}: {}", service.name, escape(&commands.start)));
    let warn = |text: String| ctx.meter.warn(text);
    let starting = commands.start(service, address, &prepared.replica_set, &ctx.cancel, &warn);
    ctx.meter.step(&format!("starting {} until it answers as the primary", service.name), starting).await?;
    ctx.meter.add_bytes(after);
    Ok(until)
}

/// The restored server answers: what was set aside goes. It is no failure of the restore when that cannot be done.
async fn finish(ctx: &Context, exchange: Exchange) {
    ctx.meter.set_phase("removing the old files");
    let aside = escape(&exchange::set_aside(exchange.folder()).to_string_lossy());
    if let Err(e) = blocking("removing files", move || exchange.remove()).await {
        ctx.meter.warn(format!("the old files could not be removed, remove {aside} by hand: {}", e.full()));
    }
}

/// Whether the service's user still logs in. It may not: the users are those of the backup.
async fn may_log_in(ctx: &Context, service: &Service) {
    if let Err(e) = Server::connect(&service.name, &service.uri, CHECK_TIMEOUT).await {
        ctx.meter.warn(format!(
            "the service was restored, but mongokeep cannot log in ({}): users and passwords are those of the backup, give \
             a valid connection string with mongokeep service edit {} --uri-file FILE",
            e.full(),
            service.name
        ));
    }
}

/// An error and its hint, as a part of another hint.
fn in_one(error: &Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("{}: {hint}", error.full()),
        None => error.full(),
    }
}

/// Gives a service its own data back, wherever the exchange was interrupted. Not to be cancelled. Says what was done.
///
/// Errors: what is left to do.
async fn undo(
    mut exchange: Exchange,
    commands: &ServiceCommands,
    (service, address, set): (&Service, &str, &str),
    warn: &(dyn Fn(String) + Sync),
) -> Result<String> {
    let never = CancellationToken::new();
    let (folder, stage) = (exchange.folder().to_owned(), exchange.stage());
    let (shown, name) = (escape(&folder.to_string_lossy()), &service.name);
    if stage == Stage::Preparing {
        let removed = blocking("removing files", move || exchange.remove()).await;
        return match removed {
            Ok(()) => Ok(format!("{name} was not touched")),
            Err(e) => Err(e.hint(format!("{name} was not touched; remove what is left in {shown} by hand"))),
        };
    }
    let attempt_id = exchange.attempt_id().to_owned();
    let aside = escape(&exchange::set_aside(&folder).to_string_lossy());
    commands.wait_for_left(&attempt_id).await?;
    let by_hand = format!(
        "the data of {name} is complete, but in two places: stop the server, move what lies in {aside} back into {shown}, and \
         start it"
    );
    if stage > Stage::Stopping {
        let lock = commands.stop(&folder, &attempt_id, &never).await.map_err(|e| with_hint(e, &by_hand))?;
        exchange = blocking("putting files back", move || exchange.put_back(&lock))
            .await
            .map_err(|e| with_hint(e, &by_hand))?;
    }
    if service_commands::take(&folder).await?.is_some() {
        commands
            .start(service, address, set, &never, warn)
            .await
            .map_err(|e| with_hint(e, &format!("{name} has its own data, but does not answer: start it by hand")))?;
    }
    let done = match stage > Stage::Stopping {
        true => format!("{name} has its own data again and answers"),
        false => format!("nothing of {name} was changed, and it answers"),
    };
    match blocking("removing files", move || exchange.remove()).await {
        Ok(()) => Ok(done),
        Err(e) => Err(e.hint(format!("{done}; remove the folder .mongokeep-restore in {shown} by hand"))),
    }
}

/// See [`crate::engine::contract::Engine::abandoned_restore`].
pub(super) async fn abandoned(service: &Service, attempt_id: &str, plan: &RestorePlan) -> Result<Option<String>> {
    let Some(files) = &plan.files else { return Ok(None) };
    let (folder, attempt) = (PathBuf::from(&files.dir), attempt_id.to_owned());
    let left = blocking("looking at a data folder", move || {
        mongod::end_left(&exchange::copy_of(&folder));
        Exchange::left(&folder, &attempt)
    });
    let Some(exchange) = left.await? else {
        return Ok(Some(format!("{} was not touched", service.name)));
    };
    let address = files.members.first().cloned().unwrap_or_default();
    if exchange.stage() == Stage::Starting {
        // It may have taken writes since: those are not thrown away.
        let greeting = crate::mongo::connect::greet(&service.name, &service.uri, &address, CHECK_TIMEOUT).await;
        if greeting.is_ok_and(|hello| hello.is_writable_primary) {
            let aside = escape(&exchange::set_aside(exchange.folder()).to_string_lossy());
            return Ok(Some(format!(
                "{} has the restored data and answers; its old files are in {aside}: remove that folder's parent when they \
                 are not needed",
                service.name
            )));
        }
    }
    let commands = ServiceCommands::of(service).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("service {} has no stop and start command any more", service.name))
            .hint(format!("a restore over it was interrupted; look into {}", escape(&files.dir)))
    })?;
    let warn = |text: String| tracing::warn!("{text}");
    undo(exchange, &commands, (service, &address, &files.replica_set), &warn).await.map(Some)
}
