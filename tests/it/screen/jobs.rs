//! Jobs on the screen: what is asked before one is cancelled, and how one is repeated.

use std::sync::Arc;

use mongokeep::domain::job::{Job, JobKind, JobRequest, JobState};
use mongokeep::domain::pitr::{Base, PointInTime, When};
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::error::ErrorKind;
use mongokeep::tui::model::{Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply};
use mongokeep::tui::update::update;

use crate::support::screen::*;

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
    // What it was asked for is in rows that no Esc drops unasked.
    let mut model = with_job(cancelled(JobKind::Restore));
    press(&mut model, "R");
    requested(&mut model, restore(request()));
    press(&mut model, "Esc");
    assert!(shown(&model).contains("Discard changes?"), "{}", shown(&model));
}

/// Shows a base that was made meanwhile, and that so many more seconds are stored.
fn stored(model: &mut Model, more: u32) {
    let mut snapshot = pitr_snapshot();
    let newer = Timestamp::new(ago(100).timestamp() as u32, 3);
    let status = &mut snapshot.pitr[0];
    status.bases.push(Base {
        backup: "newer".into(),
        consistent_at_ts: newer,
        model: mongokeep::domain::backup::Model::Logical,
    });
    status.ranges[1].to_ts.t += more;
    status.slices += u64::from(more);
    snapshot.jobs = model.data.jobs.clone();
    let effects = update(model, Msg::Snapshot(Box::new(snapshot)));
    count_operations(model, effects);
}

/// A restore to the newest change of an hour ago, from a base that is not the newest before it any more.
fn to_a_moment(until: Timestamp, model: &mut Model) -> (RestoreRequest, JobRequest) {
    stored(model, 0);
    let (_, plan) = planned_moment();
    let mut plan = plan.unwrap();
    plan.point_in_time.as_mut().unwrap().until = until;
    let moment = |when, base| RestoreRequest {
        backup: String::new(),
        point_in_time: Some(PointInTime { service: "orders-rs".into(), when, base }),
        ..request()
    };
    let wanted = moment(When::Position(until), Some("nightly-20261120".into()));
    (wanted, JobRequest::Restore { request: moment(When::Latest, None), plan })
}

/// What is planned when this is restored again, after some more keys.
fn planned_again(model: &mut Model, job: JobRequest, chords: &str) -> RestoreRequest {
    press(model, "R");
    let effects = requested(model, job);
    count_operations(model, effects);
    keys_counted(model, chords);
    match &press(model, "Ctrl-S")[..] {
        [Effect::PlanRestore(request)] => (**request).clone(),
        other => panic!("{other:?}\n{}", shown(model)),
    }
}

#[test]
fn a_moment_is_restored_again_from_the_position_and_base_of_its_plan() {
    let second = ago(60).timestamp() as u32;
    let until = Timestamp::new(second, 7);
    let mut model = with_job(cancelled(JobKind::Restore));
    let (wanted, job) = to_a_moment(until, &mut model);
    // What is asked of the rows besides changes nothing about it.
    assert_eq!(planned_again(&mut model, job.clone(), "Tab Tab Tab"), wanted);
    let text = shown(&model);
    assert!(text.contains(&until.to_string()), "{text}");
    assert!(text.contains("base nightly-20261120 of"), "the base that is planned is the one on the screen: {text}");
    // More is stored by now, and the plan is shown and left: it is still the same.
    stored(&mut model, 3_600);
    let JobRequest::Restore { plan, .. } = &job else { panic!("{job:?}") };
    reply(&mut model, Reply::RestorePlanned { request: Box::new(wanted.clone()), result: Ok(plan.clone()) });
    press(&mut model, "Esc");
    let effects = press(&mut model, "Ctrl-S");
    assert!(matches!(&effects[..], [Effect::PlanRestore(r)] if **r == wanted), "{effects:?}");
    // Another moment begins with the newest base before it, and the form says so.
    let mut model = with_job(cancelled(JobKind::Restore));
    let (_, job) = to_a_moment(until, &mut model);
    let moment = planned_again(&mut model, job, "Right").point_in_time.unwrap();
    assert_eq!((moment.when, moment.base), (When::Second(second + 1), None));
    assert!(shown(&model).contains("base newer of"), "{}", shown(&model));
    // The end of a second is that second, as it was typed.
    let mut model = with_job(cancelled(JobKind::Restore));
    let (mut wanted, job) = to_a_moment(Timestamp::new(second, u32::MAX), &mut model);
    wanted.point_in_time.as_mut().unwrap().when = When::Second(second);
    assert_eq!(planned_again(&mut model, job, "Tab Tab"), wanted);
    assert!(!shown(&model).contains(&u32::MAX.to_string()), "{}", shown(&model));
}

#[test]
fn what_cannot_be_restored_any_more_is_said() {
    let mut gone = request();
    gone.backup = "long-gone".into();
    let mut plan = planned_moment().1.unwrap();
    let moment = *planned_moment().0;
    let mut of = |service: &str, base: &str| {
        let replay = plan.point_in_time.as_mut().unwrap();
        (replay.service, replay.base.backup) = (service.into(), base.into());
        JobRequest::Restore { request: moment.clone(), plan: plan.clone() }
    };
    for (job, why) in [
        (restore(gone), "there is no good backup long-gone any more"),
        (of("users-rs", "weekly-46"), "nothing keeps the changes of users-rs"),
        (of("orders-rs", "long-gone"), "there is no good base long-gone any more"),
    ] {
        let mut model = with_job(cancelled(JobKind::Restore));
        press(&mut model, "R");
        assert_eq!(requested(&mut model, job), []);
        assert!(model.layers.is_empty());
        assert!(model.messages.back().unwrap().text.contains(why), "{:?}", model.messages);
    }
    let mut model = with_job(cancelled(JobKind::Restore));
    press(&mut model, "R");
    let problem = Problem { kind: ErrorKind::NotFound, field: None, message: "there is no job 53".into(), hint: None };
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
        requested(
            &mut model,
            JobRequest::Delete { backup: "nightly-20261120".into(), keep_files, foreign: None, increments: Vec::new() },
        );
        assert!(shown(&model).contains(said), "{}", shown(&model));
        assert_eq!(press(&mut model, "Enter"), [], "the question begins on Cancel");
        press(&mut model, "R");
        requested(
            &mut model,
            JobRequest::Delete { backup: "nightly-20261120".into(), keep_files, foreign: None, increments: Vec::new() },
        );
        assert_eq!(keys(&mut model, "Right Enter"), [Effect::RetryJob(53)]);
    }
    for kind in [JobKind::Backup, JobKind::Verify, JobKind::Retention, JobKind::Repair] {
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
        (JobKind::Repair, JobState::Running, "belonged to no backup"),
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
        reply(&mut model, Reply::Manifest { backup: format!("b{id}"), result: Ok(Box::new(contents())) });
    }
    assert_eq!((model.logs.len(), model.manifests.len()), (8, 8));
    assert!(model.logs.contains_key(&139) && model.manifests.contains_key("b139"));
    assert!(model.logs.contains_key(&53), "that of the job on the screen stays");
}
