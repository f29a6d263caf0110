//! What stands below the rows of a form: prerequisites, how a try went, what will happen, what went wrong.

use ratatui::text::Line;

use super::super::text::{first_lines, fit, reason_and_hint, spinner, wrap};
use super::super::{check, cluster, moment, preview, storage_steps};
use crate::domain::service::{CheckItem, Urgency};
use crate::domain::text::escape;
use crate::tui::form::{ADD, Form, Purpose, Source, Trial};
use crate::tui::forms::{BACKUP, in_words, is_pitr, is_to_a_moment, usual_storage_fails};
use crate::tui::missed::{recorded_twice, recording_ends};
use crate::tui::model::{Load, Model};

/// What stands below the rows: prerequisites, the sentence, the error.
/// `most`: lines that there is room for.
pub(super) fn lines(model: &Model, form: &Form, width: usize, most: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let mut lines = vec![Line::raw("")];
    if matches!(form.purpose, Purpose::Create | Purpose::EditSchedule(_)) {
        lines.extend(check::lines(model, form, width));
    }
    if form.can_be_tested() {
        lines.extend(storage_steps::of_form(model, form, width, most));
    }
    if let Some(preview) = &form.preview {
        lines.extend(preview::warnings(model, preview, width));
    }
    if let Some(text) = records_again(model, form) {
        lines.extend(wrap(&format!("✗ {text}"), width).into_iter().map(|part| Line::styled(part, theme.error)));
    }
    if let Some(text) = other_storage(model, form) {
        lines.extend(wrap(&format!("! {text}"), width).into_iter().map(|part| Line::styled(part, theme.warn)));
    }
    if let Some(service) = over_its_source(model, form) {
        let text = format!("✗ {service} is the service that this comes from: what is in it now is overwritten.");
        lines.extend(wrap(&text, width).into_iter().map(|part| Line::styled(part, theme.error)));
    }
    if let Some(service) = ends_recording(model, form) {
        let text = format!("! {}", recording_ends([service]));
        lines.extend(wrap(&text, width).into_iter().map(|part| Line::styled(part, theme.warn)));
    }
    lines.extend(form.trial.iter().flat_map(|trial| trial_lines(model, trial, width)));
    lines.extend(form.proposal.iter().flat_map(|proposal| cluster::proposal(model, proposal, width)));
    if let Some(problem) = &form.error {
        let said = |text: &str| model.say(&in_words(form, text));
        lines.extend(reason_and_hint(model, &said(&problem.message), problem.hint.as_deref().map(said), width, 7));
    } else {
        // Where there is little room the timeline says it alone.
        let says_moment = is_to_a_moment(form) && model.size.1 >= 30;
        let moment = says_moment.then(|| moment::sentence(model, form)).flatten();
        // The lowest screens need each line for the timeline and the time.
        let is_low = is_to_a_moment(form) && moment::is_low(model);
        let sentences: Vec<String> = moment.into_iter().chain(sentence(form).filter(|_| !is_low)).collect();
        if !sentences.is_empty() {
            lines
                .extend(first_lines(wrap(&sentences.join(" "), width.saturating_sub(2)), 5).into_iter().map(Line::raw));
        }
    }
    lines
}

/// How the try of a service went: what is wrong with it, and what helps.
fn trial_lines(model: &Model, trial: &Trial, width: usize) -> Vec<Line<'static>> {
    const MOST: usize = 4;
    let theme = &model.theme;
    match &trial.outcome {
        Load::Waiting => vec![Line::styled(format!("{} trying it, 10 s at most", spinner(model)), theme.running)],
        Load::Failed(problem) => {
            let hint = problem.hint.as_deref().map(|hint| model.say(hint));
            reason_and_hint(model, &model.say(&problem.message), hint, width, 5)
        }
        Load::Ready((info, items)) => {
            let mut wrong: Vec<&CheckItem> = items.iter().filter(|i| i.urgency() <= Urgency::Warning).collect();
            wrong.sort_by_key(|item| item.urgency());
            let met = if wrong.is_empty() { "; all prerequisites are met" } else { "" };
            let text = format!("✓ it answers: MongoDB {}, {}{met}", escape(&info.server_version), info.deployment());
            let mut lines = vec![Line::styled(fit(&text, width), theme.ok)];
            for item in wrong.iter().take(MOST) {
                let (sign, style) = check::check_sign(model, item.state);
                let text = format!("{sign} {}: {}", escape(&item.title), model.say(&item.detail));
                lines.push(Line::styled(fit(&text, width), style));
            }
            if wrong.len() > MOST {
                lines.push(Line::styled(format!("  and {} more", wrong.len() - MOST), theme.dim));
            }
            lines
        }
    }
}

/// What is to be known before a service is recorded by two schedules.
fn records_again(model: &Model, form: &Form) -> Option<String> {
    let edited = match &form.purpose {
        Purpose::EditSchedule(name) => name.as_str(),
        _ => "",
    };
    // One that is off records nothing, however it is edited.
    let is_on = model.schedule(edited).is_none_or(|schedule| schedule.enabled);
    let by = model.recorded_already(form.text("service"), edited).filter(|_| is_on && is_pitr(form))?;
    Some(recorded_twice(form.text("service"), by))
}

/// Why another storage is proposed than the one that took the last good backup of the service.
fn other_storage(model: &Model, form: &Form) -> Option<String> {
    if form.purpose != Purpose::Create || form.row("storage")?.touched {
        return None;
    }
    let (usual, why) = usual_storage_fails(model, form)?;
    let chosen = form.text("storage");
    (chosen != usual).then(|| format!("{}, which took the last one, is not proposed: {}", escape(&usual), escape(&why)))
}

/// The service that a restore writes over, when it is the one that the data come from.
fn over_its_source(model: &Model, form: &Form) -> Option<String> {
    let source = match &form.purpose {
        Purpose::Restore(_) if is_to_a_moment(form) => form.moment.as_ref()?.service.as_str(),
        Purpose::Restore(Source::Backup(_)) => model.backup(form.text(BACKUP))?.service.as_str(),
        _ => return None,
    };
    let to = form.row("to").filter(|row| form.applies(row))?;
    (to.value() == source).then(|| escape(source))
}

/// The service that is no longer recorded once this edit of a schedule is saved.
fn ends_recording<'a>(model: &'a Model, form: &Form) -> Option<&'a str> {
    let Purpose::EditSchedule(name) = &form.purpose else { return None };
    let schedule = model.schedule(name).filter(|s| model.is_recorded_by_this_alone(s))?;
    (!is_pitr(form) || form.text("service") != schedule.service).then_some(schedule.service.as_str())
}

/// Which part of a service is backed up: `the whole of`, `shop of`. What stands in a dimmed row does not count.
fn part_words(form: &Form) -> String {
    let part = |key: &str| {
        let row = form.row(key).filter(|row| form.why_dimmed(row).is_none());
        row.map(|row| escape(row.value().trim())).unwrap_or_default()
    };
    match (part("include").as_str(), part("exclude").as_str()) {
        ("", "") => "the whole of".to_owned(),
        (include, "") => format!("{include} of"),
        ("", exclude) => format!("all but {exclude} of"),
        (include, exclude) => format!("{include} without {exclude} of"),
    }
}

/// What will happen, in one sentence.
fn sentence(form: &Form) -> Option<String> {
    let text = |key: &str| escape(form.text(key));
    match &form.purpose {
        Purpose::Create | Purpose::EditSchedule(_) => {
            let (service, storage) = (form.text("service"), form.text("storage"));
            if service == ADD || storage == ADD || service.is_empty() || storage.is_empty() {
                return Some("A backup needs a service and a storage.".into());
            }
            let folder = if text("folder").is_empty() { String::new() } else { format!("/{}", text("folder")) };
            let what = part_words(form);
            let retry = match form.text("retry") {
                "auto" => {
                    format!(" It is tried again up to {} times, {} apart.", text("retries"), text("retry_interval"))
                }
                _ => String::new(),
            };
            let (service, storage) = (text("service"), text("storage"));
            match &form.preview {
                None => Some(format!("Now {what} {service} is backed up once to {storage}{folder}.{retry}")),
                Some(preview) => {
                    let when = preview::when_words(preview)?;
                    let kept = preview::kept_words(form);
                    Some(if is_pitr(form) {
                        let each = "each change in between is kept";
                        format!(
                            "{when} the whole of {service} is backed up to {storage}{folder}, {each}, and {kept}.{retry}"
                        )
                    } else {
                        format!("{when} {what} {service} is backed up to {storage}{folder}, and {kept}.{retry}")
                    })
                }
            }
        }
        Purpose::Restore(_) => Some("The plan comes first: nothing is written before you have seen it.".into()),
        _ => None,
    }
}
