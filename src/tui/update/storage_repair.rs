//! The repair of a storage: the plan of its check as a question, the job that carries it out, and the check that shows what
//! is left.

use super::asked;
use crate::domain::job::Job;
use crate::domain::storage_check::{Finding, FindingKind, StorageReport};
use crate::domain::text::{bytes, counted, escape};
use crate::tui::model::{About, Button, Confirm, Layer, Level, Load, Model, Repair, Report, Then};
use crate::tui::msg::{Effect, Problem};

/// So many things of a sort are named.
const NAMED: usize = 3;

/// Asks whether what the open check found is to be removed.
pub(super) fn ask(model: &mut Model) -> Vec<Effect> {
    let Some(report) = model.checked_storage().filter(|report| !report.plan.is_empty()) else { return Vec::new() };
    let question = question(report);
    model.layers.push(Layer::Confirm(question));
    Vec::new()
}

/// The plan as a question: what goes, how much that is, and what stays although it belongs to no good backup.
fn question(report: &StorageReport) -> Confirm {
    let amount = report.plan.amount();
    let (objects, size) = (counted(amount.objects, "object"), bytes(amount.bytes));
    let mut lines = vec![format!("It removes {objects}, which frees {size}:")];
    for sort in report.plan.lines() {
        lines.extend(first(&sort).into_iter().map(|line| format!("- {line}")));
    }
    let stays = stays(report);
    if !stays.is_empty() {
        lines.push("It leaves alone:".to_owned());
        lines.extend(stays);
    }
    lines
        .push("Each of them is looked at once more before it goes. Nothing that a backup needs is removed.".to_owned());
    Confirm {
        title: format!("Repair the storage {}?", report.storage),
        lines,
        buttons: vec![
            Button { label: "Cancel".into(), then: Then::Nothing },
            Button {
                label: "Remove it".into(),
                then: Then::Do(Effect::RepairStorage(report.storage.clone(), Box::new(report.plan.clone()))),
            },
        ],
        focus: 0,
        typed: None,
    }
}

fn first(lines: &[String]) -> Vec<String> {
    let more = lines.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("and {more} more of this sort"));
    lines.iter().take(NAMED).cloned().chain(more).collect()
}

/// What could be taken for rubbish and is not removed, a line for each kind, with why.
fn stays(report: &StorageReport) -> Vec<String> {
    const KINDS: [FindingKind; 7] = [
        FindingKind::AttemptAtWork,
        FindingKind::OtherAttempt,
        FindingKind::UnreadableAttempt,
        FindingKind::ForeignObject,
        FindingKind::Orphan,
        FindingKind::UnneededBlocks,
        FindingKind::UnfinishedUpload,
    ];
    let of = |kind: FindingKind| -> Vec<&Finding> {
        report.findings.iter().filter(|finding| finding.kind == kind && !finding.removable).collect()
    };
    KINDS
        .into_iter()
        .map(of)
        .filter_map(|found| {
            let first = found.first()?;
            let place = first.object.as_deref().or(first.backup.as_deref()).unwrap_or(&first.folder);
            let more = if found.len() > 1 { format!(", and {} more like it", found.len() - 1) } else { String::new() };
            Some(format!("- {}: {}{more}", escape(place), first.detail))
        })
        .collect()
}

/// The removal is queued, or is not.
pub(super) fn queued(model: &mut Model, storage: String, result: Result<Job, Problem>) {
    match result {
        Ok(job) => {
            let text = format!("{} is queued as job {}", job.title(), job.id);
            model.emit_about(About::Job(job.id), Level::Good, text, None);
            model.repairs.insert(storage, Repair { job: job.id, is_checked: false });
        }
        Err(problem) => model.emit_problem(&format!("storage {storage} is not repaired"), &problem),
    }
}

/// Checks the storages whose repair has ended since the last look, where somebody still has the page open: what it says is what
/// was there before.
pub(super) fn ended(model: &mut Model) -> Vec<Effect> {
    let has_ended =
        |repair: &Repair| !repair.is_checked && model.job(repair.job).is_some_and(|job| job.state.is_finished());
    let ended: Vec<String> =
        model.repairs.iter().filter(|(_, repair)| has_ended(repair)).map(|(storage, _)| storage.clone()).collect();
    let mut effects = Vec::new();
    for storage in ended {
        if let Some(repair) = model.repairs.get_mut(&storage) {
            repair.is_checked = true;
        }
        let report = Report::Storage(storage.clone());
        let is_open =
            model.layers.iter().any(|layer| matches!(layer, Layer::Report { report: open, .. } if *open == report));
        if is_open {
            effects.push(Effect::CheckStorage(storage));
        } else {
            model.storage_checks.remove(&storage);
        }
    }
    asked(model, effects)
}

/// Why the open page has nothing to repair; `None`: it has.
pub fn why_not(model: &Model) -> Option<String> {
    let Some(Layer::Report { report: Report::Storage(name), .. }) = model.layers.last() else {
        return Some("check a storage first (3, then v)".into());
    };
    if let Some(repair) = model.repairs.get(name).filter(|repair| !repair.is_checked) {
        return Some(format!("job {} removes it already", repair.job));
    }
    match model.storage_checks.get(name) {
        None | Some(Load::Waiting) => Some("the check goes on".into()),
        Some(Load::Failed(_)) => Some("the check failed".into()),
        Some(Load::Ready(report)) => report.plan.is_empty().then(|| "there is nothing to remove".into()),
    }
}
