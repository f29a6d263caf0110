//! The form of a restore: a backup, or a moment of a service; into which service, and what of it.
//!
//! Both are one form, so that what was chosen about the target stays when a person changes their mind about the source.
//! Files go over a service or into a folder, and as a whole.

use super::{identity_row, refresh_choices, row};
use crate::client;
use crate::domain::backup::{Backup, BackupState};
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::{
    DATA_FOLDER, DATA_FOLDER_FIELDS, FILES, FILES_FIELDS, IDENTITY, IDENTITY_FIELDS, RESTORE, RESTORE_FIELDS,
};
use crate::domain::pitr::{PlannedReplay, When};
use crate::domain::restore::{RestoreDraft, RestorePlan, RestoreRequest};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::domain::typed;
use crate::tui::form::{Choice, Form, Item, Purpose, Row, Source};
use crate::tui::model::Model;
use crate::tui::moment::{self, MomentPane};

/// The row that decides between the backup and a moment, and its words.
pub const WHAT: &str = "_what";
pub const BACKUP: &str = "backup";
pub const MOMENT: &str = "moment";
/// The rows of the moment: the cursor on its timeline, and the same as text.
pub const TIMELINE: &str = "_timeline";
pub const TIME: &str = "_time";

/// The row that decides where files go, and its words.
pub const WHERE: &str = "_where";
pub const OVER_A_SERVICE: &str = "service";
pub const INTO_A_FOLDER: &str = "folder";

const WHERE_FIELD: Field = Field::new(
    WHERE,
    "Where",
    FieldKind::Choice(&[OVER_A_SERVICE, INTO_A_FOLDER]),
    "in the place of a service's data, or a folder that a server is started on",
);
const WHAT_FIELD: Field =
    Field::new(WHAT, "What", FieldKind::Choice(&[BACKUP, MOMENT]), "as it was backed up, or as it was at any second");
// A choice without words: its keys belong to the cursor.
const TIMELINE_FIELD: Field = Field::new(TIMELINE, "Timeline", FieldKind::Choice(&[]), "");
const TIME_FIELD: Field = Field::new(
    TIME,
    "Time",
    FieldKind::Text,
    "2026-11-21 14:02:03, with Z or an offset if need be; T,I of the oplog; or latest",
)
.required()
.check(moment::check);

/// The rows of the target, in the order in which a person decides.
const TARGET: [&str; 8] =
    ["to", "include", "rename", "exact", "no_ttl", "users_and_roles", REPLSET_MAP, "safety_backup"];
const REPLSET_MAP: &str = "replset_map";
/// Of them, those of files that go over a service.
const OF_FILES: [&str; 2] = ["to", "safety_backup"];

/// To restore a backup, or a moment of the service it belongs to.
pub fn restore_backup(model: &Model, backup: &str) -> Option<Form> {
    let known = model.backup(backup)?;
    let (service, files) = (known.service.clone(), !known.model.counts_documents());
    let mut form = form(model, Source::Backup(backup.to_owned()), &service, files);
    if let Some(row) = form.row_mut(BACKUP) {
        row.set(backup);
        let alike = model.data.backups.iter().filter(|other| is_alike(known, other));
        row.choices = alike.map(|b| Choice::new(b.name.as_str())).collect();
    }
    if let Some(row) = form.row_mut(WHAT) {
        row.set(BACKUP);
        let why = match files {
            true => Some("use restore --time"),
            false => model.pitr(&service).is_none().then_some("not recorded"),
        };
        if let Some(why) = why {
            row.choices[1] = Choice { label: row.choices[1].label, ..Choice::disabled(MOMENT, why) };
            row.disabled = Some(String::new());
        }
    }
    refresh_choices(model, &mut form);
    // The backup is chosen already; whoever wants another one goes back to it.
    let chosen = form.row_at(BACKUP);
    form.focus = form.items().into_iter().find(|item| Some(*item) != chosen).unwrap_or(Item::Submit);
    Some(form)
}

/// Whether a restore form that was opened for one backup can be about another one.
pub fn is_alike(one: &Backup, other: &Backup) -> bool {
    other.state == BackupState::Succeeded
        && other.service == one.service
        && other.model.counts_documents() == one.model.counts_documents()
        && other.encryption.is_some() == one.encryption.is_some()
}

/// To restore a moment of a service.
pub fn restore_service(model: &Model, service: &str) -> Form {
    let mut form = form(model, Source::Service(service.to_owned()), service, false);
    form.rows.retain(|r| r.field.key != BACKUP);
    if let Some(row) = form.row_mut(WHAT) {
        row.set(MOMENT);
        row.choices.remove(0);
        row.disabled = Some(String::new());
    }
    refresh_choices(model, &mut form);
    form.focus = form.row_at(TIMELINE).unwrap_or(Item::Submit);
    write_time(model, &mut form);
    form
}

/// The restore of a job once more: its request in a form, to be planned and confirmed anew.
///
/// A moment is taken from the plan: what was asked for as the newest change would lead to a newer one by now, with all
/// that was to be undone, and the newest base may be another.
///
/// Errors: why what was to be restored cannot be restored any more.
pub fn restore_again(model: &Model, request: &RestoreRequest, plan: &RestorePlan) -> Result<Form, String> {
    let mut form = match &plan.point_in_time {
        Some(replay) => moment_again(model, replay)?,
        None => {
            let backup = &request.backup;
            let is_good = model.backup(backup).is_some_and(|b| b.state == BackupState::Succeeded);
            let form = restore_backup(model, backup).filter(|_| is_good);
            form.ok_or_else(|| format!("there is no good backup {} any more", escape(backup)))?
        }
    };
    let draft = RestoreDraft::from(request);
    let mut present = typed::texts(RESTORE, &draft);
    present.extend(typed::texts(DATA_FOLDER, &draft));
    present.extend(typed::texts(FILES, &draft));
    present.extend(typed::texts(IDENTITY, &draft));
    if let Some(row) = form.row_mut(WHERE) {
        row.set(if request.data_folder.is_some() { INTO_A_FOLDER } else { OVER_A_SERVICE });
    }
    let of_files = [DATA_FOLDER_FIELDS, FILES_FIELDS, IDENTITY_FIELDS].concat();
    for key in TARGET.into_iter().chain(of_files.iter().map(|field| field.key)) {
        if let Some(row) = form.row_mut(key) {
            row.set(present.get(key).map(|texts| texts.join(", ")).unwrap_or_default());
            // A person has chosen it once: it is not dropped without a question.
            row.touched = true;
        }
    }
    refresh_choices(model, &mut form);
    settle_replset_map(model, &mut form);
    Ok(form)
}

/// The form with the cursor at exactly the position of a plan, and with its base.
fn moment_again(model: &Model, replay: &PlannedReplay) -> Result<Form, String> {
    let service = &replay.service;
    let Some(status) = model.pitr(service) else {
        return Err(format!("nothing keeps the changes of {} any more", escape(service)));
    };
    let base = &replay.base.backup;
    if !status.bases.iter().any(|b| b.backup == *base) {
        return Err(format!("there is no good base {} any more", escape(base)));
    }
    // The end of a second is that second, which a person can read.
    let at = match replay.until {
        Timestamp { t, i: u32::MAX } => When::Second(t),
        position => When::Position(position),
    };
    let mut form = restore_service(model, service);
    if let Some(pane) = &mut form.moment {
        pane.go_near(at, None, &status.ranges);
        pane.planned = Some((at, base.clone()));
    }
    write_time(model, &mut form);
    Ok(form)
}

fn form(model: &Model, source: Source, service: &str, files: bool) -> Form {
    let mut what = row(WHAT_FIELD);
    for (choice, label) in what.choices.iter_mut().zip(["this backup", "point in time"]) {
        choice.label = Some(label);
    }
    let field = |key: &str| RESTORE_FIELDS.iter().find(|f| f.key == key);
    let mut rows = vec![what];
    rows.extend(field(BACKUP).map(|f| Row { only_if: Some((WHAT, BACKUP)), ..row(*f) }));
    rows.push(Row { only_if: Some((WHAT, MOMENT)), ..row(TIMELINE_FIELD) });
    rows.push(Row { only_if: Some((WHAT, MOMENT)), ..row(TIME_FIELD) });
    if files {
        rows.push(where_row());
        let (over, into) = (Some((WHERE, OVER_A_SERVICE)), Some((WHERE, INTO_A_FOLDER)));
        rows.extend(OF_FILES.iter().filter_map(|key| field(key)).map(|f| Row { only_if: over, ..row(*f) }));
        rows.extend(DATA_FOLDER_FIELDS.iter().map(|f| Row { only_if: into, ..row(*f) }));
        rows.extend(FILES_FIELDS.iter().map(|f| row(*f)));
    } else {
        rows.extend(TARGET.iter().filter_map(|key| field(key)).map(|f| row(*f)));
    }
    // A moment is reached from any of the backups of its service, and slices are written for the same recipients.
    rows.extend(match &source {
        Source::Backup(name) => identity_row(model, |backup| backup.name == *name),
        Source::Service(service) => identity_row(model, |backup| backup.service == *service),
    });
    let mut form = Form::new(Purpose::Restore(source), rows);
    // A backup that a sync has found may be of a service that this machine does not know: then a person picks.
    let is_known = model.data.services.iter().any(|s| s.name == service);
    if let Some(row) = form.row_mut("to").filter(|_| is_known) {
        row.set(service);
    }
    form.moment = Some(Box::new(MomentPane::new(service)));
    settle_replset_map(model, &mut form);
    form
}

/// Only PBM tells replica sets apart by their names.
fn settle_replset_map(model: &Model, form: &mut Form) {
    let target = form.text("to");
    let is_mapped = model.data.services.iter().any(|s| s.name == target && s.engine.has_nodes());
    if let Some(row) = form.row_mut(REPLSET_MAP) {
        row.disabled = (!is_mapped).then(|| "only where PBM restores".to_owned());
    }
}

fn where_row() -> Row {
    let mut row = row(WHERE_FIELD);
    for (choice, label) in row.choices.iter_mut().zip(["over a service", "into a data folder"]) {
        choice.label = Some(label);
    }
    row.set(OVER_A_SERVICE);
    row
}

/// Whether the form, as it is, stands for a moment.
pub fn is_to_a_moment(form: &Form) -> bool {
    matches!(form.purpose, Purpose::Restore(_)) && form.text(WHAT) == MOMENT
}

/// Whether keys belong to the cursor of the timeline.
pub fn on_timeline(form: &Form) -> bool {
    form.focused().is_some_and(|r| r.field.key == TIMELINE)
}

/// What follows from a changed row.
pub(super) fn changed(model: &Model, form: &mut Form, key: &str) {
    match key {
        // The cursor follows what is typed as soon as it is a time.
        TIME => {
            let text = form.text(TIME).to_owned();
            let Some(pane) = &mut form.moment else { return };
            let zone = pane.zone(model.zone, model.local_zone);
            if let Ok((at, odd)) = moment::parse(&text, zone) {
                let status = model.pitr(&pane.service);
                pane.go_near(at, odd, status.map_or(&[][..], |s| &s.ranges));
            }
        }
        WHAT => write_time(model, form),
        "to" => settle_replset_map(model, form),
        _ => {}
    }
}

/// Puts the moment of the cursor into the row of its text, unless that is being typed or wrong.
pub fn write_time(model: &Model, form: &mut Form) {
    let typing = form.focused().is_some_and(|r| r.field.key == TIME);
    let Some(pane) = &form.moment else { return };
    let text = moment::write(pane.at, pane.zone(model.zone, model.local_zone));
    if let Some(row) = form.row_mut(TIME).filter(|r| !typing && r.error.is_none() && r.value() != text) {
        row.set(text);
    }
}

/// The request that a filled restore form stands for.
///
/// Errors: what is wrong with a field (the field's own check has said so before), and a service of which no moment can be
/// restored.
pub fn restore_request(model: &Model, form: &Form) -> Result<RestoreRequest, String> {
    let mut values = form.values();
    values.remove(BACKUP);
    let mut put = |key: &str, text: &str| drop(values.insert(key.to_owned(), vec![text.to_owned()]));
    match (&form.purpose, form.moment.as_ref().filter(|_| is_to_a_moment(form))) {
        (_, Some(pane)) if model.pitr(&pane.service).is_none_or(|s| s.ranges.is_empty()) => {
            return Err(format!("no moment of {} can be restored yet", pane.service));
        }
        (_, Some(pane)) => {
            put("service", &pane.service);
            put("time", &pane.at.to_string());
            if let Some(base) = pane.planned_base() {
                put("base", base);
            }
        }
        (Purpose::Restore(Source::Backup(_)), None) => put(BACKUP, form.text(BACKUP)),
        (_, None) => return Err("this form restores nothing".into()),
    }
    client::restore_request(&values).map_err(|e| e.full())
}
