//! The one form of everything that makes backups: on demand, by a schedule, and the edit of a schedule.
//!
//! Its rows are those of a schedule, of which a backup on demand needs a part; so whatever was typed stays when a
//! person changes their mind about when.

use super::{fill, pick_first, refresh_choices, row};
use crate::client::{StorageView, Values, backup_types};
use crate::domain::backup::{Backup, BackupState, BackupType, Model as BackupModel};
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::{BACKUP_FIELDS, SCHEDULE, SCHEDULE_FIELDS};
use crate::domain::schedule::Schedule;
use crate::domain::service::EngineKind;
use crate::domain::typed;
use crate::tui::form::{Choice, DimmedIf, Form, Item, Purpose, Row};
use crate::tui::model::{Load, Model};
use crate::tui::msg::Effect;
use crate::tui::preview::Preview;

/// The row that decides between a backup now and a schedule, and its words.
pub const WHEN: &str = "_when";
pub const ON_DEMAND: &str = "on demand";
pub const BY_SCHEDULE: &str = "schedule";

const WHEN_FIELD: Field = Field::new(
    WHEN,
    "When",
    FieldKind::Choice(&[ON_DEMAND, BY_SCHEDULE]),
    "once and now, or again and again by itself",
)
.default(ON_DEMAND);
const FREQUENCY: &str = "_frequency";
const FREQUENCY_FIELD: Field = Field::new(
    FREQUENCY,
    "Frequency",
    FieldKind::Choice(&["hourly", "daily", "weekly", "monthly", OWN_LINE]),
    "a proposal; the line below can be changed to anything that crontab knows",
)
.default("daily");
const OWN_LINE: &str = "other";
const PRESETS: [(&str, &str); 4] =
    [("hourly", "0 * * * *"), ("daily", "0 2 * * *"), ("weekly", "0 2 * * 0"), ("monthly", "0 2 1 * *")];

/// The word of the type that keeps each change, and the rows that pick a part of a service.
const PITR: &str = "pitr";
const TYPE_LABELS: [(&str, &str); 3] =
    [(PITR, "point in time"), ("incremental", "increment"), ("incremental-base", "new base")];
const PARTS: [&str; 2] = ["include", "exclude"];

/// Which rows do not apply with what is in others.
const DIMMED: [(&[&str], &[DimmedIf]); 2] = [
    (
        &PARTS,
        &[
            DimmedIf { when: &[("model", "physical")], why: "a physical backup holds all files" },
            DimmedIf { when: &[(WHEN, BY_SCHEDULE), ("type", PITR)], why: "point in time covers the whole service" },
        ],
    ),
    (&["retries", "retry_interval"], &[DimmedIf { when: &[("retry", "manual")], why: "only with automatic retry" }]),
];

/// What the form is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    OnDemand,
    Schedule,
}

/// Whether the form, as it is, stands for a schedule.
pub fn is_schedule(form: &Form) -> bool {
    form.text(WHEN) == BY_SCHEDULE
}

/// The form for a new backup or schedule.
pub fn create(model: &Model, service: Option<&str>, when: When) -> (Form, Vec<Effect>) {
    let mut form = Form::new(Purpose::Create, all_rows());
    refresh_choices(model, &mut form);
    pick_first(&mut form);
    if let Some(row) = form.row_mut(WHEN) {
        if !model.backups_enabled() {
            row.choices[0] = Choice::disabled(ON_DEMAND, "backup management is off");
        }
        row.set(if when == When::Schedule { BY_SCHEDULE } else { ON_DEMAND });
    }
    let mut put = |key: &str, value: &str| {
        if let Some(row) = form.row_mut(key) {
            row.set(value);
        }
    };
    if let Some(service) = service {
        put("service", service);
    }
    put("cron", PRESETS[1].1);
    put("timezone", model.zone.name());
    propose_storage(model, &mut form);
    // Who comes from the schedules has decided about when.
    let first = if when == When::Schedule { "name" } else { WHEN };
    form.focus = form.row_at(first).unwrap_or(Item::Submit);
    let mut effects = changed(model, &mut form, WHEN);
    effects.extend(changed(model, &mut form, "service"));
    effects.extend(changed(model, &mut form, "storage"));
    (form, effects)
}

/// The same form with a schedule in it.
pub fn edit_schedule(model: &Model, schedule: &Schedule) -> (Form, Vec<Effect>) {
    let mut form = Form::new(Purpose::EditSchedule(schedule.name.clone()), all_rows());
    refresh_choices(model, &mut form);
    fill(&mut form.rows, &typed::texts(SCHEDULE, schedule));
    for row in &mut form.rows {
        row.note_what_is_gone();
        match row.field.key {
            WHEN => {
                row.set(BY_SCHEDULE);
                row.disabled = Some(String::new());
            }
            // Its backups are called after it.
            "name" => row.disabled = Some("cannot be changed; a copy has its own".into()),
            _ => {}
        }
    }
    form.focus = form.row_at("service").unwrap_or(Item::Submit);
    fit_type(model, &mut form);
    // A preset whose line it is stands in the row of proposals.
    let mut effects = changed(model, &mut form, "cron");
    effects.extend(changed(model, &mut form, "service"));
    effects.extend(changed(model, &mut form, "storage"));
    (form, effects)
}

/// The rows of both, in the order in which a person decides.
fn all_rows() -> Vec<Row> {
    let mut all = vec![row(WHEN_FIELD)];
    for field in SCHEDULE_FIELDS {
        let shared = BACKUP_FIELDS.iter().any(|f| f.key == field.key);
        let only_if = (!shared).then_some((WHEN, BY_SCHEDULE));
        if field.key == "cron" {
            all.push(Row { only_if, ..row(FREQUENCY_FIELD) });
            all.push(Row { only_if, ..row(Field { label: "Crontab line", ..*field }) });
        } else {
            let dimmed_if =
                DIMMED.iter().find(|(keys, _)| keys.contains(&field.key)).map_or(&[][..], |(_, rules)| rules);
            all.push(Row { only_if, dimmed_if, ..row(*field) });
        }
    }
    all
}

/// Whether the form, as it is, stands for a schedule that keeps each change.
pub fn is_pitr(form: &Form) -> bool {
    is_schedule(form) && form.text("type") == PITR
}

/// What is submitted of a schedule. One that takes the whole service cannot have a part of it, so an edit has to clear
/// the rows that say which: what is left out would stay as it was.
pub fn schedule_values(form: &Form) -> Values {
    let mut values = form.values();
    if matches!(form.purpose, Purpose::EditSchedule(_)) {
        let is_dimmed = |key: &&str| form.row(key).is_some_and(|row| form.why_dimmed(row).is_some());
        values.extend(PARTS.into_iter().filter(is_dimmed).map(|key| (key.to_owned(), vec![String::new()])));
    }
    values
}

/// Whether a type is one that the engine makes of any model, so that it is worth a word.
fn is_offered(word: &str, engine: Option<EngineKind>, scheduled: bool) -> bool {
    match word.parse::<BackupType>() {
        Ok(BackupType::Pitr) => scheduled,
        Ok(of) if of.is_incremental() => {
            engine.is_some_and(|engine| backup_types(engine, BackupModel::Physical).contains(&of))
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Why a type cannot be had; `None`: it can.
fn why_not(word: &str, engine: Option<EngineKind>, model: BackupModel, scheduled: bool) -> Option<String> {
    let backup_type: BackupType = word.parse().ok()?;
    if backup_type == BackupType::Pitr {
        let rule = SCHEDULE_FIELDS.iter().find(|f| f.key == "type").and_then(|f| f.validate(PITR).err());
        return match (scheduled, model) {
            (false, _) => Some("a schedule records each change".to_owned()),
            (true, BackupModel::Physical) => Some("point in time needs the logical model".to_owned()),
            (true, BackupModel::Logical) => rule,
        };
    }
    let is_made = engine.is_none_or(|engine| backup_types(engine, model).contains(&backup_type));
    (!is_made).then(|| match is_offered(word, engine, scheduled) {
        true => "increments need the physical model".to_owned(),
        false => "only PBM makes increments".to_owned(),
    })
}

/// Point in time needs documents, increments need an engine that makes them: what cannot be had is dimmed, with the
/// reason.
fn fit_type(model: &Model, form: &mut Form) {
    let (scheduled, of) = (is_schedule(form), backup_model(form));
    let service = form.text("service").to_owned();
    let engine = model.data.services.iter().find(|s| s.name == service).map(|s| s.engine);
    if let Some(row) = form.row_mut("type") {
        let present = row.value().to_owned();
        let offered = BackupType::WORDS.iter().filter(|word| **word == present || is_offered(word, engine, scheduled));
        row.choices = offered
            .map(|word| Choice {
                label: TYPE_LABELS.iter().find(|(value, _)| value == word).map(|(_, label)| *label),
                disabled: why_not(word, engine, of, scheduled),
                ..Choice::new(*word)
            })
            .collect();
        if row.choices.iter().any(|c| c.value == row.value() && c.disabled.is_some()) {
            row.set("full");
        }
        // A backup on demand is full where there is nothing else.
        row.hidden = !scheduled && row.choices.iter().filter(|c| c.disabled.is_none()).count() < 2;
    }
}

/// What follows from a changed row: defaults of other rows, what must be looked up, what the schedule would do.
pub fn changed(model: &Model, form: &mut Form, key: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    match key {
        WHEN => {
            // A backup may do without a name of its own, a schedule may not.
            let fields = if is_schedule(form) { SCHEDULE_FIELDS } else { BACKUP_FIELDS };
            let field = fields.iter().find(|f| f.key == "name");
            if let (Some(row), Some(field)) = (form.row_mut("name"), field) {
                row.field = *field;
                row.error = None;
            }
            effects.extend(propose_name(model, form));
        }
        "service" => {
            effects.extend(propose_name(model, form));
            effects.extend(service_changed(model, form));
        }
        "storage" => {
            let name = form.text("storage").to_owned();
            if model.data.storages.iter().any(|s| s.name == name) {
                effects.push(Effect::FreeSpace(name));
            }
        }
        FREQUENCY => {
            let line = PRESETS.iter().find(|(word, _)| *word == form.text(FREQUENCY)).map(|(_, line)| *line);
            if let (Some(row), Some(line)) = (form.row_mut("cron"), line) {
                row.set(line);
                row.error = None;
            }
            effects.extend(propose_name(model, form));
        }
        "cron" => {
            let word = PRESETS.iter().find(|(_, line)| *line == form.text("cron")).map_or(OWN_LINE, |(word, _)| word);
            if let Some(row) = form.row_mut(FREQUENCY) {
                row.set(word);
            }
            effects.extend(propose_name(model, form));
        }
        _ => {}
    }
    if [WHEN, "service", "model", "type"].contains(&key) {
        fit_type(model, form);
    }
    if key == "model" {
        effects.extend(check(model, form));
    }
    effects.extend(preview(model, form));
    effects
}

/// A name for what is being made, unless a person has typed one.
fn propose_name(model: &Model, form: &mut Form) -> Option<Effect> {
    let service = form.text("service").to_owned();
    if form.purpose != Purpose::Create
        || form.row("name").is_none_or(|r| r.touched)
        || !model.data.services.iter().any(|s| s.name == service)
    {
        return None;
    }
    if !is_schedule(form) {
        return Some(Effect::SuggestName(service));
    }
    let often = match form.text(FREQUENCY) {
        OWN_LINE => "scheduled",
        word => word,
    };
    // Room for a number within the 100 characters of a name.
    let base: String = format!("{}-{often}", service.chars().take(80).collect::<String>());
    let taken = |name: &str| model.schedule(name).is_some();
    let name = (1..)
        .map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") })
        .find(|name| !taken(name))
        .unwrap_or(base);
    if let Some(row) = form.row_mut("name") {
        row.set(name);
        row.error = None;
    }
    None
}

/// Why nothing can be written to a storage; `None`: nothing speaks against it. What the check of the service has tried just
/// now counts for more than the last test.
fn why_unwritable(model: &Model, form: &Form, storage: &StorageView) -> Option<String> {
    let check = match model.check(form.text("service"), backup_model(form)) {
        Some(Load::Ready(report)) => Some(&report.storages),
        Some(Load::Waiting | Load::Failed(_)) | None => None,
    };
    match check.and_then(|tried| tried.get(&storage.name)) {
        Some(outcome) => outcome.clone(),
        None => storage.last_test_error.clone(),
    }
}

/// The storage that took the last good backup of the service in `form`, and why it takes no other, if that is so.
pub fn usual_storage_fails(model: &Model, form: &Form) -> Option<(String, String)> {
    let service = form.text("service");
    let last = model.data.backups.iter().find(|b| b.state == BackupState::Succeeded && b.service == service)?;
    let storage = model.data.storages.iter().find(|s| s.name == last.storage)?;
    Some((storage.name.clone(), why_unwritable(model, form, storage)?))
}

/// The storage that is the likeliest, unless a person has picked one: the last that took a good backup of the service, or
/// of any, and whose last test did not fail.
fn propose_storage(model: &Model, form: &mut Form) {
    let service = form.text("service").to_owned();
    let good: Vec<&StorageView> =
        model.data.storages.iter().filter(|storage| why_unwritable(model, form, storage).is_none()).collect();
    let took = |of: &dyn Fn(&Backup) -> bool| {
        let last = model.data.backups.iter().filter(|b| b.state == BackupState::Succeeded && of(b));
        last.map(|b| b.storage.as_str()).find(|name| good.iter().any(|s| s.name == *name)).map(str::to_owned)
    };
    // One whose last backup failed is the last that is proposed, whatever it failed for.
    let failed_last = |storage: &StorageView| {
        let mut ended = model.data.backups.iter().filter(|b| b.storage == storage.name);
        ended.find(|b| b.state != BackupState::Running).is_some_and(|b| b.state == BackupState::Failed)
    };
    let likeliest = good.iter().min_by_key(|s| (failed_last(s), s.last_test_at.is_none())).map(|s| s.name.clone());
    let storage = took(&|b| b.service == service).or_else(|| took(&|_| true)).or(likeliest);
    if let Some(row) = form.row_mut("storage").filter(|r| !r.touched)
        && let Some(storage) = storage
    {
        row.set(storage);
    }
}

/// A check has said which storages can be written: one that was only proposed and cannot is replaced.
pub fn checked(model: &Model, form: &mut Form) -> Vec<Effect> {
    let before = form.text("storage").to_owned();
    if form.purpose == Purpose::Create {
        propose_storage(model, form);
    }
    if form.text("storage") == before { Vec::new() } else { changed(model, form, "storage") }
}

fn service_changed(model: &Model, form: &mut Form) -> Vec<Effect> {
    let name = form.text("service").to_owned();
    let Some(service) = model.data.services.iter().find(|s| s.name == name) else { return Vec::new() };
    let mut effects = Vec::new();
    if form.purpose == Purpose::Create {
        let folder = service.cluster.clone().filter(|c| !c.is_empty()).unwrap_or_else(|| name.clone());
        if let Some(row) = form.row_mut("folder").filter(|r| !r.touched) {
            row.set(folder);
        }
        propose_storage(model, form);
    }
    effects.extend(check(model, form));
    if !matches!(model.infos.get(&name), Some(Load::Ready(_))) {
        effects.push(Effect::ServiceInfo(name));
    }
    effects
}

/// The model that is chosen.
pub fn backup_model(form: &Form) -> BackupModel {
    form.text("model").parse().unwrap_or_default()
}

/// Tries what a backup of the chosen model does, unless that is being tried.
fn check(model: &Model, form: &Form) -> Option<Effect> {
    let (name, of) = (form.text("service").to_owned(), backup_model(form));
    let known = model.data.services.iter().any(|service| service.name == name);
    let waiting = matches!(model.check(&name, of), Some(Load::Waiting));
    (known && !waiting).then_some(Effect::CheckService(name.clone(), of))
}

/// Looks ahead for a schedule: at once what the line means, and as an effect how that fits with the others.
fn preview(model: &Model, form: &mut Form) -> Option<Effect> {
    if !is_schedule(form) {
        form.preview = None;
        return None;
    }
    let mut next = Preview::of(model, form);
    let asks = next.asks(model);
    match &mut form.preview {
        // Nothing that matters has changed: what is known stays, and nothing is asked twice.
        Some(known) if known.is_same(&next) => return None,
        known => {
            if let Some(known) = known {
                next.keep(known);
            }
            *known = Some(Box::new(next));
        }
    }
    asks
}

/// Puts the proposed time into the crontab line.
pub fn take_free_slot(model: &Model, form: &mut Form) -> Vec<Effect> {
    let present = form.preview.as_ref().filter(|p| !p.is_old);
    let Some(line) = present.and_then(|p| p.free.as_ref()).map(|slot| slot.cron.clone()) else {
        return Vec::new();
    };
    if let Some(row) = form.row_mut("cron") {
        row.set(line);
        row.touched = true;
        row.error = None;
    }
    changed(model, form, "cron")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_backup_are_a_part_of_those_of_a_schedule() {
        for field in BACKUP_FIELDS {
            let twin = SCHEDULE_FIELDS.iter().find(|f| f.key == field.key);
            let twin = twin.unwrap_or_else(|| panic!("{} is missing", field.key));
            assert_eq!(twin.advanced, field.advanced, "{}", field.key);
        }
    }
}
