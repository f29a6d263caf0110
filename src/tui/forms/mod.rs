//! The forms of this program, made from the described fields and what the model knows.

use std::collections::BTreeSet;

use super::form::{ADD, Choice, Form, Item, Purpose, Row, STORED, split};
use super::model::{Model, THEME};
use super::msg::Effect;
use crate::client::{STORAGE_FIELDS, Values, storage_fields, storage_types};
use crate::domain::backup::Backup;
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::{ENCRYPTION_FIELDS, IDENTITY_FIELD, SERVICE_FIELDS, SETTING_FIELDS};

mod create;
mod restore;
mod words;

pub use create::{
    BY_SCHEDULE, ON_DEMAND, WHEN, When, backup_model, checked, create, edit_schedule, is_pitr, is_schedule,
    schedule_values, take_free_slot, usual_storage_fails,
};
pub use restore::{
    BACKUP, MOMENT, TIME, TIMELINE, WHAT, is_alike, is_to_a_moment, on_timeline, restore_again, restore_backup,
    restore_request, restore_service, write_time,
};

pub use words::in_words;

/// What the button that submits a form says.
pub fn submit_label(form: &Form) -> &'static str {
    match form.purpose {
        Purpose::AddService | Purpose::AddStorage => "Add",
        Purpose::EditService(_) | Purpose::EditStorage(_) | Purpose::EditSchedule(_) | Purpose::Setting(_) => "Save",
        Purpose::Create if is_schedule(form) => "Schedule",
        Purpose::Create => "Back up now",
        Purpose::Restore(_) => "Show the plan",
        Purpose::Verify(_) => "Verify",
    }
}

fn rows(fields: &[Field]) -> Vec<Row> {
    fields.iter().map(|f| row(*f)).collect()
}

/// A row whose words that are refused by the field's own rule are dimmed with that reason.
fn row(field: Field) -> Row {
    let mut row = Row::new(field);
    for choice in &mut row.choices {
        choice.disabled = field.validate(&choice.value).err();
    }
    row
}

pub fn add_service() -> Form {
    Form::new(Purpose::AddService, rows(SERVICE_FIELDS))
}

pub fn edit_service(model: &Model, name: &str) -> Option<Form> {
    let service = model.data.services.iter().find(|s| s.name == name)?;
    let mut rows: Vec<Row> = SERVICE_FIELDS.iter().filter(|f| f.key != "name").map(|f| row(*f)).collect();
    fill(&mut rows, &service.fields);
    // Its password is not in it.
    for row in rows.iter_mut().filter(|row| row.field.key == "uri") {
        row.present = Some(service.uri.clone());
        row.field.help = "leave it empty to keep the present one";
    }
    Some(Form::new(Purpose::EditService(name.to_owned()), rows))
}

pub fn add_storage() -> Form {
    let mut all = rows(STORAGE_FIELDS);
    for kind in storage_types() {
        all.extend(rows(&storage_fields(kind)).into_iter().map(|r| Row { only_if: Some(("type", kind)), ..r }));
    }
    all.extend(encryption_rows());
    Form::new(Purpose::AddStorage, all)
}

pub fn edit_storage(model: &Model, name: &str) -> Option<Form> {
    let storage = model.data.storages.iter().find(|s| s.name == name)?;
    let mut rows: Vec<Row> = rows(&storage_fields(&storage.kind));
    rows.extend(encryption_rows());
    let mut present: Values = storage.config.iter().map(|(key, text)| (key.clone(), vec![text.clone()])).collect();
    present.insert("encrypt_to".into(), storage.encrypt_to.iter().map(ToString::to_string).collect());
    fill(&mut rows, &present);
    let encryption = storage.encryption.as_ref();
    for row in &mut rows {
        row.present = match row.field.key {
            PROOF => encryption.map(|encryption| match encryption.proof {
                Some(proof) => proof.word().to_owned(),
                None => "missing, so that no backup begins".to_owned(),
            }),
            "encrypt_passphrase" => encryption.filter(|e| e.passphrase).map(|_| STORED.to_owned()),
            key if row.field.kind == FieldKind::Secret => match &storage.stored_secrets {
                Some(stored) => stored.iter().any(|known| known == key).then(|| STORED.to_owned()),
                None => Some("unreadable: the local key is missing, enter it again".to_owned()),
            },
            _ => continue,
        };
    }
    Some(Form::new(Purpose::EditStorage(name.to_owned()), rows))
}

/// The form of a storage, where it takes the proof.
pub fn prove_storage(model: &Model, name: &str) -> Option<Form> {
    let mut form = edit_storage(model, name)?;
    form.focus = form.row_at(PROOF).unwrap_or(form.focus);
    Some(form)
}

/// The row that takes an identity, to prove that what is encrypted can be opened.
pub const PROOF: &str = "identity_file";

/// The rows of the encryption of a storage. The proof stands beside the recipients that it is for, and nowhere else.
fn encryption_rows() -> Vec<Row> {
    const HELP: &str = "a file with the identity of a recipient, which is tried and not kept; without it no backup \
                        begins. Whoever loses the identities of all recipients loses the backups";
    let mut rows = rows(ENCRYPTION_FIELDS);
    for row in &mut rows {
        match row.field.key {
            PROOF => {
                (row.field.advanced, row.field.help) = (false, HELP);
                row.only_with = Some("encrypt_to");
            }
            "no_proof" => row.only_with = Some("encrypt_to"),
            _ => {}
        }
    }
    rows
}

/// Whether what is in the form of a storage would be encrypted to somebody of whom nobody has shown an identity.
pub fn lacks_proof(model: &Model, form: &Form) -> bool {
    let is_proven = !form.text(PROOF).is_empty() || form.text("no_proof") == "true";
    // Whoever types the passphrase has it.
    let is_typed = form.row("encrypt_passphrase").is_some_and(|row| !row.value().is_empty());
    if form.text("encrypt_to").is_empty() || is_proven || is_typed {
        return false;
    }
    let Purpose::EditStorage(name) = &form.purpose else { return form.purpose == Purpose::AddStorage };
    let Some(storage) = model.data.storages.iter().find(|s| s.name == *name) else { return false };
    let before: BTreeSet<String> = storage.encrypt_to.iter().map(ToString::to_string).collect();
    let after: BTreeSet<String> = split(form.text("encrypt_to")).into_iter().collect();
    let is_removed = form.row("encrypt_passphrase").is_some_and(|row| row.removes);
    let is_known = storage.encryption.as_ref().is_some_and(|encryption| encryption.proof.is_some());
    !is_known || is_removed || before != after
}

/// Whether the form of a storage that encrypts would leave it with nobody to encrypt to.
pub fn ends_encryption(model: &Model, form: &Form) -> bool {
    let Purpose::EditStorage(name) = &form.purpose else { return false };
    let (Some(to), Some(passphrase)) = (form.row("encrypt_to"), form.row("encrypt_passphrase")) else { return false };
    let storage = model.data.storages.iter().find(|s| s.name == *name);
    let encryption = storage.and_then(|storage| storage.encryption.as_ref());
    // What the form began with counts as well: the catalogue may know already what is saved.
    let began_with = split(to.before.as_deref().unwrap_or(to.value()));
    let has_passphrase = passphrase.present.is_some() || encryption.is_some_and(|encryption| encryption.passphrase);
    let was_encrypted = encryption.is_some() || has_passphrase || !began_with.is_empty();
    let keeps_passphrase = !passphrase.value().is_empty() || (has_passphrase && !passphrase.removes);
    was_encrypted && split(to.value()).is_empty() && !keeps_passphrase
}

/// Puts the cursor where the encryption is ended.
pub fn go_to_encryption(form: &mut Form) {
    let is_passphrase = form.row("encrypt_passphrase").is_some_and(|row| row.removes);
    let key = if is_passphrase { "encrypt_passphrase" } else { "encrypt_to" };
    form.advanced_open |= form.row(key).is_some_and(|row| row.field.advanced);
    form.focus = form.row_at(key).unwrap_or(form.focus);
}

/// Puts what there is into the rows of an edit. A secret is not shown, and stays as it is when its row is left empty.
fn fill(rows: &mut [Row], present: &Values) {
    for row in rows {
        if row.field.kind == FieldKind::Secret {
            row.field.required = false;
        } else if let Some(texts) = present.get(row.field.key) {
            row.set(texts.join(", "));
        }
    }
}

/// Asks for the identity that opens a backup; `None` where none is needed, or the settings say where it is.
pub fn verify(model: &Model, backup: &str) -> Option<Form> {
    let row = identity_row(model, |known| known.name == backup)?;
    Some(Form::new(Purpose::Verify(backup.to_owned()), vec![row]))
}

/// The row that asks where an identity is, when any of the backups that are `meant` is encrypted and no setting says it.
fn identity_row(model: &Model, meant: impl Fn(&Backup) -> bool) -> Option<Row> {
    let is_set = !model.setting("encryption.identity_file").is_empty();
    let is_encrypted = model.data.backups.iter().any(|backup| backup.encryption.is_some() && meant(backup));
    (is_encrypted && !is_set).then(|| row(IDENTITY_FIELD.required()))
}

/// The row of a setting that offers values.
const PICK: &str = "pick";
/// Stands for a value that is typed.
const OTHER: &str = "\u{0}other";

/// The values that a setting can have, to pick from, and a row to type another one into.
pub fn setting(model: &Model, key: &str) -> Option<Form> {
    let field = SETTING_FIELDS.iter().find(|f| f.key == key)?;
    let value = model.setting(key);
    let mut pick = Row::new(Field { key: PICK, kind: FieldKind::Backup, default: "", required: false, ..*field });
    pick.field.check = |_| Ok(());
    pick.choices = if key == THEME {
        model.themes.names().map(Choice::new).collect()
    } else {
        field.picks.iter().map(|(value, words)| Choice { label: Some(words), ..Choice::new(*value) }).collect()
    };
    pick.is_tall = true;
    let mut typed = row(*field);
    typed.field.label = "Another value";
    typed.set(value);
    if pick.choices.is_empty() {
        typed.field.label = field.label;
        return Some(Form::new(Purpose::Setting(key.to_owned()), vec![typed]));
    }
    if field.takes_any() && key != THEME {
        pick.choices.push(Choice { label: Some("another value"), ..Choice::new(OTHER) });
        typed.only_if = Some((PICK, OTHER));
    }
    let is_offered = pick.choices.iter().any(|choice| choice.value == value);
    let taken = match (is_offered, key) {
        (true, _) => value,
        (false, THEME) => "dark",
        (false, _) => OTHER,
    };
    pick.set(taken);
    let rows = if typed.only_if.is_some() { vec![pick, typed] } else { vec![pick] };
    Some(Form::new(Purpose::Setting(key.to_owned()), rows))
}

/// What is picked or typed in the form of a setting.
pub fn setting_value<'a>(form: &'a Form, key: &str) -> &'a str {
    match form.row(PICK).map(Row::value) {
        Some(picked) if picked != OTHER => picked,
        _ => form.text(key),
    }
}

/// Puts the services and storages that exist now into the rows that offer them. What was picked stays picked; what is
/// gone by now is said at its row, and nothing else is picked in its place.
pub fn refresh_choices(model: &Model, form: &mut Form) {
    for row in &mut form.rows {
        let names: Vec<String> = match row.field.kind {
            FieldKind::Service => model.data.services.iter().map(|s| s.name.clone()).collect(),
            FieldKind::Storage => model.data.storages.iter().map(|s| s.name.clone()).collect(),
            _ => continue,
        };
        // Where there is something to choose from, the list of the row offers to add one.
        let add = names.is_empty().then(|| Choice::new(ADD));
        row.choices = names.into_iter().map(Choice::new).chain(add).collect();
        row.note_what_is_gone();
    }
}

/// Whether the list of a row offers to add one: where something new is being made. An edit has what it needs.
pub fn may_add(form: &Form, key: &str) -> bool {
    let picks = form.row(key).is_some_and(Row::picks_a_name);
    picks && matches!(form.purpose, Purpose::Create | Purpose::Restore(_))
}

/// Picks the first service and storage in a form for something new, or to add one where there is none.
fn pick_first(form: &mut Form) {
    let empty = |row: &&mut Row| row.value().is_empty() && row.picks_a_name();
    for row in form.rows.iter_mut().filter(empty) {
        let first = row.choices.first().map_or(ADD, |c| c.value.as_str()).to_owned();
        row.set(first);
    }
}

/// Puts the engine that was proposed, and where it connects to, into the form of a service. Adding is left to the person.
pub fn take_engine(form: &mut Form) {
    let Some(proposal) = form.proposal.take() else { return };
    form.error = None;
    let is_complete = !proposal.needs_other_uri || proposal.full.is_some();
    if let Some(row) = form.row_mut("engine") {
        row.set(proposal.engine.word());
        (row.touched, row.error) = (true, None);
    }
    if let Some(row) = form.row_mut("uri") {
        match proposal.full {
            Some(uri) => row.set(uri.expose()),
            None if proposal.needs_other_uri => {
                row.error = Some("PBM needs that of the config servers' replica set".to_owned());
            }
            None => {}
        }
    }
    form.advanced_open = true;
    form.focus = if is_complete { Item::Submit } else { form.row_at("uri").unwrap_or(Item::Submit) };
}

/// What follows from a changed row: defaults of other rows, and what must be looked up.
pub fn changed(model: &Model, form: &mut Form, key: &str) -> Vec<Effect> {
    let effects = changed_by_purpose(model, form, key);
    form.forget_errors_of_dimmed();
    effects
}

fn changed_by_purpose(model: &Model, form: &mut Form, key: &str) -> Vec<Effect> {
    match form.purpose {
        Purpose::Create | Purpose::EditSchedule(_) => create::changed(model, form, key),
        Purpose::Restore(_) => {
            restore::changed(model, form, key);
            Vec::new()
        }
        Purpose::AddService | Purpose::EditService(_) => {
            // It was about what stood there before.
            if matches!(key, "uri" | "engine") {
                form.proposal = None;
            }
            form.trial = None;
            Vec::new()
        }
        Purpose::AddStorage | Purpose::EditStorage(_) | Purpose::Setting(_) | Purpose::Verify(_) => Vec::new(),
    }
}
