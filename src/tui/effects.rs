//! Performs effects through the client. Each runs on its own task and answers with one message.

use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

use super::model::Model;
use super::msg::{Effect, Msg, Problem, Reply, draft_name};
use crate::client::{Client, Removes};
use crate::error::{Error, ErrorKind, Result};

/// How many services are asked at once: each takes connections, and there may be a thousand.
static PROBES: Semaphore = Semaphore::const_new(24);

/// Starts `effect`; the answer arrives on `messages`, with the `edition` of the service that was asked about. Effects of the terminal itself are not for here. Gives what ends it:
/// only for one that changes nothing.
pub fn start(client: Client, effect: Effect, edition: u64, messages: Sender<Msg>) -> AbortHandle {
    let service = about(&effect).map(str::to_owned);
    let task = tokio::spawn(async move {
        let (ticket, effect) = match effect {
            Effect::Submitted { ticket, effect } => (Some(ticket), *effect),
            effect => (None, effect),
        };
        let reply = |reply| Some(Msg::Reply(Box::new(reply)));
        let msg = match (perform(client, effect, &messages).await, ticket, service) {
            (Some(Msg::Reply(answer)), Some(ticket), _) => reply(Reply::Submitted { ticket, reply: answer }),
            (Some(Msg::Reply(answer)), None, Some(service)) => {
                reply(Reply::OfService { service, edition, reply: answer })
            }
            (msg, _, _) => msg,
        };
        if let Some(msg) = msg {
            // The screen may be gone by now; what was done stays done.
            let _ = messages.send(msg).await;
        }
    });
    task.abort_handle()
}

/// The service that an effect asks about, as it is.
pub fn about(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::CheckService(service, _)
        | Effect::ServiceInfo(service)
        | Effect::Cluster(service)
        | Effect::Namespaces(service) => Some(service),
        _ => None,
    }
}

/// Whether the form or page of this ticket still waits.
type IsWanted = fn(&Model, u64) -> bool;

/// What takes long and changes nothing, and the form or page that waits for it: a plan, or a look at what a location holds.
pub struct Planning {
    ticket: u64,
    is_wanted: IsWanted,
    task: AbortHandle,
}

impl Planning {
    /// Starts `effect`, and keeps hold of it when it is one of those.
    pub fn start(client: Client, effect: Effect, edition: u64, messages: Sender<Msg>) -> Option<Self> {
        let waits: Option<(u64, IsWanted)> = match &effect {
            Effect::Submitted { ticket, effect } if matches!(**effect, Effect::PlanRestore(_)) => {
                Some((*ticket, super::update::waits))
            }
            Effect::ReadHoldings { ticket, .. } => Some((*ticket, super::update::waits_for_holdings)),
            Effect::PlanSync { ticket, .. } => Some((*ticket, super::update::waits_for_plan)),
            _ => None,
        };
        let task = start(client, effect, edition, messages);
        waits.map(|(ticket, is_wanted)| Self { ticket, is_wanted, task })
    }

    /// Ends it when nothing waits for it any more: a plan may read weeks of recorded oplog, and a location hold many manifests.
    pub fn is_wanted(&self, model: &Model) -> bool {
        let wanted = (self.is_wanted)(model, self.ticket);
        if !wanted {
            self.task.abort();
        }
        wanted
    }
}

/// Runs something that touches the store on a thread of its own.
pub async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Problem::from),
        Err(e) => Err(Error::new(ErrorKind::Internal, "a worker stopped").source(e).into()),
    }
}

async fn perform(client: Client, effect: Effect, messages: &Sender<Msg>) -> Option<Msg> {
    let reply = match effect {
        Effect::Quit | Effect::Suspend | Effect::Redraw | Effect::Copy(_) | Effect::Submitted { .. } => return None,
        Effect::EnsureDaemon => {
            return Some(match in_background(move || client.ensure_daemon()).await {
                Ok(status) => Msg::Daemon(status),
                Err(problem) => Msg::DaemonLost(problem),
            });
        }
        Effect::AddService(values) => match client.propose_engine(&values).await {
            Ok(Some(proposal)) => Reply::EngineProposed(Box::new(proposal)),
            Ok(None) => Reply::ServiceSaved(in_background(move || client.add_service(&values)).await),
            Err(e) => Reply::ServiceSaved(Err(e.into())),
        },
        Effect::AddServiceAnyway(values) => {
            Reply::ServiceSaved(in_background(move || client.add_service(&values)).await)
        }
        Effect::EditService(name, values) => {
            let saved = client.edit_service_looking(&name, &values).await;
            Reply::ServiceSaved(saved.map(|(service, _)| service).map_err(Problem::from))
        }
        Effect::RemoveService(name) => {
            let of = name.clone();
            Reply::ServiceRemoved { name, result: in_background(move || client.remove_service(&of)).await }
        }
        Effect::CheckService(name, model) => {
            let result = client.check_service(&name, model).await.map_err(Problem::from);
            Reply::ServiceChecked { name, model, result }
        }
        Effect::ServiceInfo(name) => {
            // Never closed, so that there is always a turn.
            let _turn = PROBES.acquire().await;
            let result = client.service_info(&name).await.map_err(Problem::from);
            Reply::ServiceInfo { name, result }
        }
        Effect::Cluster(name) => {
            let result = client.service_cluster(&name).await.map(|seen| seen.map(Box::new)).map_err(Problem::from);
            Reply::ClusterSeen { name, result }
        }
        Effect::Namespaces(service) => {
            let result = client.service_namespaces(&service).await.map_err(Problem::from);
            Reply::NamespacesListed { service, result }
        }
        Effect::TryService { edited, values } => {
            Reply::ServiceTried(client.try_service(edited.as_deref(), &values).await.map_err(Problem::from))
        }
        Effect::AddStorage(values) => Reply::StorageSaved(in_background(move || client.add_storage(&values)).await),
        Effect::EditStorage(name, values) => {
            Reply::StorageSaved(in_background(move || client.edit_storage(&name, &values)).await)
        }
        Effect::RemoveStorage(name) => {
            let of = name.clone();
            Reply::StorageRemoved { name, result: in_background(move || client.remove_storage(&of)).await }
        }
        Effect::TestStorage(name) => {
            let storage = name.clone();
            let steps = messages.clone();
            let on_step = move |step: &crate::domain::storage::TestStep| {
                // A step that finds no room is in the final answer too.
                let _ = steps.try_send(Msg::TestStep { storage: storage.clone(), step: step.clone() });
            };
            let result = client.test_storage(&name, &on_step).await.map_err(Problem::from);
            Reply::StorageTested { name, result }
        }
        Effect::TestDraft { ticket, edited, values } => {
            let name = draft_name(ticket);
            let (storage, steps) = (name.clone(), messages.clone());
            let on_step = move |step: &crate::domain::storage::TestStep| {
                // A step that finds no room is in the final answer too.
                let _ = steps.try_send(Msg::TestStep { storage: storage.clone(), step: step.clone() });
            };
            let result = client.test_draft(edited.as_deref(), &values, &on_step).await.map_err(Problem::from);
            Reply::StorageTested { name, result }
        }
        Effect::KeepTest { name, steps } => {
            let (of, kept) = (name.clone(), steps.clone());
            let result = in_background(move || client.keep_test(&of, &kept).map(|()| kept)).await;
            Reply::StorageTested { name, result }
        }
        Effect::PlanSync { ticket, storage } => {
            let result = client.plan_sync(&storage).await.map(Box::new).map_err(Problem::from);
            Reply::SyncPlanned { ticket, name: storage, result }
        }
        Effect::CarryOutSync(name, plan) => {
            let result = client.carry_out_sync(*plan).await.map_err(Problem::from);
            Reply::StorageSynced { name, result }
        }
        Effect::CheckStorage(name) => {
            let meter = std::sync::Arc::new(crate::engine::Meter::silent());
            let result = client.check_storage(&name, meter, Default::default()).await.map_err(Problem::from);
            Reply::StorageChecked { name, result }
        }
        Effect::RepairStorage(storage, plan) => {
            let of = storage.clone();
            let result = in_background(move || client.repair_storage(&of, &plan)).await;
            Reply::RepairQueued { storage, result }
        }
        Effect::ReadHoldings { ticket, edited, values } => {
            let result = client.draft_holdings(edited.as_deref(), &values).await.map_err(Problem::from);
            Reply::HoldingsRead { ticket, result }
        }
        Effect::FreeSpace(name) => {
            let result = client.storage_free_space(&name).await.map_err(Problem::from);
            Reply::FreeSpace { name, result }
        }
        Effect::SuggestName(service) => {
            let of = service.clone();
            Reply::NameSuggested { service, result: in_background(move || client.suggest_backup_name(&of)).await }
        }
        Effect::CreateBackup(values) => {
            let result = in_background(move || client.create_backup(&values)).await;
            Reply::Queued { what: "the backup was not queued".into(), result }
        }
        Effect::Verify(name, identity) => {
            let what = format!("{name} is not verified");
            let result = in_background(move || client.verify_backup(&name, identity.as_deref())).await;
            Reply::Queued { what, result }
        }
        Effect::Manifest(backup) => {
            let result = client.contents(&backup).await.map(Box::new).map_err(Problem::from);
            Reply::Manifest { backup, result }
        }
        Effect::Pin(backup, pinned) => {
            let name = backup.clone();
            let result = in_background(move || client.pin_backup(&name, pinned)).await.map(|b| b.pinned);
            Reply::Pinned { backup, result }
        }
        Effect::PlanDelete(backup) => {
            let plans = async {
                let record = client.plan_delete(&backup, true, false).await?;
                let files = client.plan_delete(&backup, false, false).await?;
                // Those of another installation are shown as what they are, and asked about by their name.
                Ok(Box::new(match files.removes {
                    Removes::NothingYet => (record, client.plan_delete(&backup, false, true).await?),
                    Removes::RecordAndFiles | Removes::Record | Removes::Nothing | Removes::NothingAlone => {
                        (record, files)
                    }
                }))
            };
            let result: Result<_> = plans.await;
            Reply::DeletePlanned { backup, result: result.map_err(Problem::from) }
        }
        Effect::Delete { backup, keep_files, foreign, increments } => {
            let what = format!("{backup} is not deleted");
            let work = move || client.delete_backup(&backup, keep_files, foreign.as_deref(), &increments);
            Reply::Queued { what, result: in_background(work).await }
        }
        Effect::Operations { service, from, to, buckets } => {
            let of = service.clone();
            let result = in_background(move || client.pitr_operations(&of, from, to, buckets)).await;
            Reply::Operations { service, from, to, buckets, result }
        }
        Effect::PlanRestore(request) => {
            let result = client.plan_restore(&request).await.map(Box::new).map_err(Problem::from);
            Reply::RestorePlanned { request, result }
        }
        Effect::Restore(request, plan) => {
            let result = in_background(move || client.restore(&request, &plan)).await;
            Reply::Queued { what: "the restore was not queued".into(), result }
        }
        Effect::AddSchedule(values) => {
            let result = in_background(move || client.add_schedule(&values)).await.map(Box::new);
            Reply::ScheduleSaved { edited: false, result }
        }
        Effect::EditSchedule(name, values) => {
            let result = in_background(move || client.edit_schedule(&name, &values)).await.map(Box::new);
            Reply::ScheduleSaved { edited: true, result }
        }
        Effect::SwitchSchedule(name, on) => {
            let of = name.clone();
            let result = in_background(move || client.enable_schedule(&of, on)).await.map(Box::new);
            Reply::ScheduleSwitched { name, result }
        }
        Effect::CopySchedule(name) => {
            let of = name.clone();
            let result = in_background(move || client.copy_schedule(&of, None)).await.map(Box::new);
            Reply::ScheduleCopied { name, result }
        }
        Effect::RemoveSchedule(name) => {
            let of = name.clone();
            Reply::ScheduleRemoved { name, result: in_background(move || client.remove_schedule(&of)).await }
        }
        Effect::RunSchedule(name) => Reply::Queued {
            what: format!("schedule {name} was not run"),
            result: in_background(move || client.run_schedule(&name)).await,
        },
        Effect::PlanRetention(schedule) => {
            let result = client.plan_retention(&schedule).await.map(Box::new).map_err(Problem::from);
            Reply::RetentionPlanned { schedule, result }
        }
        Effect::Timeline { from, until } => {
            Reply::Timeline(in_background(move || client.timeline(from, until, None)).await.map(Box::new))
        }
        Effect::FreeSlot(schedule) => {
            let values = [("name".to_owned(), vec![schedule.clone()])].into();
            // A proposal; the runs themselves say what is wrong.
            let slot = in_background(move || client.nearest_free_slot(&values)).await.ok().flatten();
            Reply::FreeSlot { schedule, slot }
        }
        Effect::Preview { from, until, values } => {
            let draft = values.clone();
            let looked = in_background(move || {
                let timeline = client.timeline(from, until, Some(&draft))?;
                Ok((timeline, client.nearest_free_slot(&draft)?))
            });
            match looked.await {
                Ok((timeline, free)) => Reply::Previewed { values, result: Ok(Box::new(timeline)), free },
                Err(problem) => Reply::Previewed { values, result: Err(problem), free: None },
            }
        }
        Effect::Warnings => Reply::Warnings(in_background(move || client.warnings()).await),
        Effect::TestNotification(channel) => {
            let result = client.test_notification(channel).await.map_err(Problem::from);
            Reply::NotificationTested { channel, result }
        }
        Effect::CancelJob(id) => {
            Reply::JobCancelled { id, result: in_background(move || client.cancel_job(id).map(drop)).await }
        }
        Effect::RetryJob(id) => Reply::Queued {
            what: format!("job {id} is not retried"),
            result: in_background(move || client.retry_job(id)).await,
        },
        Effect::JobRequest(id) => {
            Reply::JobRequested { id, result: in_background(move || client.job_request(id)).await.map(Box::new) }
        }
        Effect::SetSetting(key, value) => {
            let name = key.clone();
            Reply::SettingSaved { key, result: in_background(move || client.set_setting(&name, &value)).await }
        }
    };
    Some(Msg::Reply(Box::new(reply)))
}
