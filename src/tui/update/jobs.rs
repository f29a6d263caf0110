//! To cancel a job, and to repeat one: what is said before, and what is asked anew.

use super::act::push_form;
use crate::domain::job::JobRequest;
use crate::domain::job_kind::Repeat;
use crate::domain::text::escape;
use crate::tui::forms;
use crate::tui::model::{Button, Confirm, Layer, Level, Model, Then};
use crate::tui::msg::{Effect, Problem};

/// Asks whether to cancel the job of the row or page, with what is left of it then.
pub(super) fn cancel(model: &mut Model) -> Vec<Effect> {
    let Some(job) = model.target_job() else { return Vec::new() };
    let (id, title, line) = (job.id, job.title(), (job.kind.entry().left_behind)(job));
    model.layers.push(Layer::Confirm(Confirm {
        title: format!("Cancel {title}?"),
        lines: vec![line],
        buttons: vec![
            Button { label: "Let it run".into(), then: Then::Nothing },
            Button { label: "Cancel the job".into(), then: Then::Do(Effect::CancelJob(id)) },
        ],
        focus: 0,
        typed: None,
    }));
    Vec::new()
}

/// Repeats the job of the row or page. A restore is planned and confirmed anew, since it would replace what has been
/// written to its target since; a delete is asked for anew.
pub(super) fn retry(model: &Model) -> Vec<Effect> {
    let Some(job) = model.target_job() else { return Vec::new() };
    vec![match job.kind.entry().repeat {
        Repeat::AskAnew => Effect::JobRequest(job.id),
        Repeat::AsItWas => Effect::RetryJob(job.id),
    }]
}

/// Asks anew for what a job was queued to do.
pub(super) fn requested(model: &mut Model, id: i64, result: Result<Box<JobRequest>, Problem>) -> Vec<Effect> {
    let what = format!("job {id} is not repeated");
    let request = match result {
        Ok(request) => request,
        Err(problem) => {
            model.emit_problem(&what, &problem);
            return Vec::new();
        }
    };
    if !model.still_asks(&Effect::JobRequest(id)) {
        model.emit(Level::Info, format!("{what}: another key came first"), None);
        return Vec::new();
    }
    match *request {
        JobRequest::Restore { request, plan } => match forms::restore_again(model, &request, &plan) {
            Ok(form) => push_form(model, Some(form)),
            Err(why) => {
                model.emit(Level::Warn, format!("{what}: {why}"), None);
                Vec::new()
            }
        },
        // Whose it is, and that it is meant, is asked anew.
        JobRequest::Delete { backup, foreign: Some(_), .. } => vec![Effect::PlanDelete(backup)],
        JobRequest::Delete { backup, keep_files, foreign: None, increments } => {
            let backup = escape(&backup);
            let line = if keep_files {
                "Only its record: its files stay, and a sync of the storage finds it again."
            } else {
                "Record and files: it is gone for good."
            };
            let title = format!("Delete {backup} after all?");
            let mut lines = vec![line.to_owned()];
            lines.extend(increments.iter().map(|name| format!("Its increment {} goes with it.", escape(name))));
            super::act::ask(model, title, lines, "Delete", Effect::RetryJob(id))
        }
        _ => vec![Effect::RetryJob(id)],
    }
}
