//! Jobs on the screen: what is asked before one is cancelled, and how one is repeated.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod tui;

use std::sync::Arc;

use mongokeep::domain::job::{Job, JobKind, JobRequest, JobState};
use mongokeep::domain::pitr::{PointInTime, When};
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::error::ErrorKind;
use mongokeep::tui::form::Form;
use mongokeep::tui::model::{Layer, Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply};
use mongokeep::tui::update::update;
use tui::*;

const SIZE: (u16, u16) = (80, 24);

/// The list of jobs with this one alone.
fn with_job(job: Job) -> Model {
    let mut model = full(Look::default(), SIZE);
    let mut snapshot = pitr_snapshot();
    snapshot.jobs = Arc::new(vec![job]);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    keys(&mut model, "l l");
    model
}

fn cancelled(kind: JobKind) -> Job {
    job(53, kind, "nightly-20261120", JobState::Cancelled, 20_000)
}

fn form(model: &Model) -> &Form {
    match model.layers.last() {
        Some(Layer::Form(form)) => form,
        other => panic!("no form on top: {other:?}"),
    }
}

fn requested(model: &mut Model, request: JobRequest) -> Vec<Effect> {
    reply(model, Reply::JobRequested { id: 53, result: Ok(Box::new(request)) })
}

fn restore(request: RestoreRequest) -> JobRequest {
    JobRequest::Restore { request, plan: planned().1.unwrap() }
}

fn request() -> RestoreRequest {
    let mut request = *planned().0;
    request.to = "users-rs".into();
    request.include = vec!["shop.orders".parse().unwrap(), "shop.events".parse().unwrap()];
    request.rename = vec!["shop=old".parse().unwrap()];
    (request.exact, request.safety_backup) = (true, true);
    request
}

#[test]
fn a_restore_is_planned_and_confirmed_anew() {
    for at in ["R", "h R", "Enter R"] {
        let mut model = with_job(cancelled(JobKind::Restore));
        assert_eq!(keys(&mut model, at), [Effect::JobRequest(53)], "{at}");
    }
    let mut model = with_job(cancelled(JobKind::Restore));
    press(&mut model, "R");
    assert_eq!(requested(&mut model, restore(request())), []);
    let effects = press(&mut model, "Ctrl-S");
    assert!(matches!(&effects[..], [Effect::PlanRestore(r)] if **r == request()), "{effects:?}");
    // A moment, with the cursor where it was.
    let mut model = with_job(cancelled(JobKind::Restore));
    press(&mut model, "R");
    let mut moment = request();
    moment.backup = String::new();
    let when = When::Second(ago(60).timestamp() as u32);
    moment.point_in_time = Some(PointInTime { service: "orders-rs".into(), when, base: None });
    requested(&mut model, restore(moment.clone()));
    let effects = press(&mut model, "Ctrl-S");
    assert!(matches!(&effects[..], [Effect::PlanRestore(r)] if **r == moment), "{effects:?}");
}

#[test]
fn what_cannot_be_restored_any_more_is_said() {
    let mut gone = request();
    gone.backup = "long-gone".into();
    let mut nothing_kept = request();
    nothing_kept.point_in_time = Some(PointInTime { service: "users-rs".into(), when: When::Latest, base: None });
    for (request, why) in
        [(gone, "there is no good backup long-gone any more"), (nothing_kept, "nothing keeps the changes of users-rs")]
    {
        let mut model = with_job(cancelled(JobKind::Restore));
        press(&mut model, "R");
        assert_eq!(requested(&mut model, restore(request)), []);
        assert!(model.layers.is_empty());
        assert!(model.messages.back().unwrap().text.contains(why), "{:?}", model.messages);
    }
    let mut model = with_job(cancelled(JobKind::Restore));
    press(&mut model, "R");
    let problem = Problem { kind: ErrorKind::NotFound, message: "there is no job 53".into(), hint: None };
    reply(&mut model, Reply::JobRequested { id: 53, result: Err(problem) });
    assert!(shown(&model).contains("there is no job 53"), "{}", shown(&model));
    // The answer opens nothing over what was pressed meanwhile.
    let mut model = with_job(cancelled(JobKind::Restore));
    keys(&mut model, "R n");
    assert_eq!(model.layers.len(), 1);
    requested(&mut model, restore(request()));
    assert_eq!(model.layers.len(), 1);
    assert_eq!(form(&model).purpose, mongokeep::tui::form::Purpose::Create);
}

#[test]
fn a_delete_is_asked_for_anew_and_the_rest_is_repeated() {
    for (keep_files, said) in [(true, "Only its record"), (false, "it is gone for good")] {
        let mut model = with_job(cancelled(JobKind::Delete));
        assert_eq!(press(&mut model, "R"), [Effect::JobRequest(53)]);
        requested(&mut model, JobRequest::Delete { backup: "nightly-20261120".into(), keep_files });
        assert!(shown(&model).contains(said), "{}", shown(&model));
        assert_eq!(press(&mut model, "Enter"), [], "the question begins on Cancel");
        press(&mut model, "R");
        requested(&mut model, JobRequest::Delete { backup: "nightly-20261120".into(), keep_files });
        assert_eq!(keys(&mut model, "Right Enter"), [Effect::RetryJob(53)]);
    }
    for kind in [JobKind::Backup, JobKind::Verify, JobKind::Retention] {
        assert_eq!(press(&mut with_job(cancelled(kind)), "R"), [Effect::RetryJob(53)], "{kind:?}");
    }
}

#[test]
fn cancelling_says_what_is_left_behind() {
    for (kind, state, said) in [
        (JobKind::Backup, JobState::Running, "What it has written to the storage so far is removed"),
        (JobKind::Restore, JobState::Running, "Nothing is rolled back"),
        (JobKind::Restore, JobState::Queued, "It has not begun"),
        (JobKind::Verify, JobState::Running, "It only reads"),
        (JobKind::Delete, JobState::Running, "What it has deleted is gone"),
        (JobKind::Retention, JobState::Running, "The backups it has deleted are gone"),
    ] {
        let mut model = with_job(job(53, kind, "nightly-20261120", state, 3));
        press(&mut model, "c");
        let text = shown(&model).replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(said), "{kind:?} {state:?}: {text}");
        assert_eq!(text.contains("to the storage so far is removed"), kind == JobKind::Backup, "{text}");
        assert_eq!(keys(&mut model, "Right Enter"), [Effect::CancelJob(53)]);
    }
}

#[test]
fn only_the_last_logs_and_manifests_are_kept() {
    let mut model = with_job(job(53, JobKind::Verify, "nightly-20261120", JobState::Failed, 3));
    update(&mut model, log_lines(53));
    for id in 100..140 {
        update(&mut model, log_lines(id));
        reply(&mut model, Reply::Manifest { backup: format!("b{id}"), result: Ok(Box::new(manifest())) });
    }
    assert_eq!((model.logs.len(), model.manifests.len()), (8, 8));
    assert!(model.logs.contains_key(&139) && model.manifests.contains_key("b139"));
    assert!(model.logs.contains_key(&53), "that of the job on the screen stays");
}
