//! The forms of this program, made from the described fields and what the model knows.

use super::form::{ADD, Choice, Form, Item, Purpose, Row};
use super::model::{Load, Model};
use super::msg::Effect;
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::{
    self, BACKUP_FIELDS, FILESYSTEM_FIELDS, NOT_BUILT, RESTORE_FIELDS, S3_FIELDS, SERVICE_FIELDS, SETTING_FIELDS,
    STORAGE_FIELDS,
};
use crate::domain::restore::RestoreRequest;

/// Rows that stand in the form only to say what this version cannot do yet.
const WHEN: Field = Field::new("_when", "When", FieldKind::Text, "now; schedules are not built yet in this version");
const TYPE: Field = Field::new("_type", "Backup type", FieldKind::Text, "one consistent moment of the whole set");

fn rows(fields: &'static [Field]) -> Vec<Row> {
    fields.iter().map(|f| row(*f)).collect()
}

/// A row whose words that are refused by the field's own rule are dimmed with that reason.
fn row(field: Field) -> Row {
    let mut row = Row::new(field);
    for choice in &mut row.choices {
        choice.disabled = (field.check)(&choice.value).err();
    }
    row
}

fn explained(field: Field, words: [(&str, Option<&str>); 2]) -> Row {
    let mut row = Row::new(Field { kind: FieldKind::Choice(&[]), ..field });
    row.choices = words
        .iter()
        .map(|(word, why)| match why {
            Some(why) => Choice::disabled(*word, *why),
            None => Choice::new(*word),
        })
        .collect();
    row.set(words[0].0);
    row.disabled = Some(String::new());
    row
}

pub fn add_service() -> Form {
    Form::new(Purpose::AddService, rows(SERVICE_FIELDS))
}

pub fn edit_service(model: &Model, name: &str) -> Option<Form> {
    let service = model.data.services.iter().find(|s| s.name == name)?;
    let mut rows: Vec<Row> = SERVICE_FIELDS.iter().filter(|f| f.key != "name").map(|f| row(*f)).collect();
    for row in &mut rows {
        match row.field.key {
            "uri" => optional_secret(row),
            "cluster" => row.set(service.cluster.clone().unwrap_or_default()),
            "production_hours" => row.set(service.production_hours.clone().unwrap_or_default()),
            _ => {}
        }
    }
    Some(Form::new(Purpose::EditService(name.to_owned()), rows))
}

pub fn add_storage() -> Form {
    let mut all = rows(STORAGE_FIELDS);
    all.extend(rows(FILESYSTEM_FIELDS).into_iter().map(|r| Row { only_if: Some(("type", "filesystem")), ..r }));
    all.extend(rows(S3_FIELDS).into_iter().map(|r| Row { only_if: Some(("type", "s3")), ..r }));
    Form::new(Purpose::AddStorage, all)
}

pub fn edit_storage(model: &Model, name: &str) -> Option<Form> {
    let storage = model.data.storages.iter().find(|s| s.name == name)?;
    let mut rows = rows(fields::storage_fields(&storage.kind));
    for row in &mut rows {
        if row.field.kind == FieldKind::Secret {
            optional_secret(row);
        } else if let Some(value) = storage.config.get(row.field.key) {
            row.set(value.clone());
        }
    }
    Some(Form::new(Purpose::EditStorage(name.to_owned()), rows))
}

/// In an edit, a secret that is left empty stays as it is.
fn optional_secret(row: &mut Row) {
    row.field.required = false;
    row.field.help = "leave empty to keep the present one";
}

pub fn create_backup(model: &Model, service: Option<&str>) -> (Form, Vec<Effect>) {
    let mut all = vec![explained(WHEN, [("on demand", None), ("schedule", Some(NOT_BUILT))])];
    all.extend(rows(BACKUP_FIELDS));
    let after_folder = all.iter().position(|r| r.field.key == "folder").map_or(all.len(), |i| i + 1);
    all.insert(after_folder, explained(TYPE, [("full", None), ("point in time", Some(NOT_BUILT))]));
    let mut form = Form::new(Purpose::CreateBackup, all);
    form.advanced_open = false;
    refresh_choices(model, &mut form);
    if let Some(service) = service
        && let Some(row) = form.row_mut("service")
    {
        row.set(service);
    }
    // The storage its last backup went to is the likeliest.
    let last = model.data.backups.iter().find(|b| b.service == form.text("service")).map(|b| b.storage.clone());
    if let Some(storage) = last.filter(|s| model.data.storages.iter().any(|x| x.name == *s))
        && let Some(row) = form.row_mut("storage")
    {
        row.set(storage);
    }
    form.focus = form.items().first().copied().unwrap_or(Item::Submit);
    let mut effects = changed(model, &mut form, "service");
    effects.extend(changed(model, &mut form, "storage"));
    (form, effects)
}

pub fn restore(model: &Model, backup: &str) -> Option<Form> {
    let found = model.backup(backup)?;
    let mut all = rows(RESTORE_FIELDS);
    for row in &mut all {
        match row.field.key {
            "backup" => {
                row.set(backup);
                row.disabled = Some(String::new());
            }
            "to" => row.set(found.service.clone()),
            _ => {}
        }
    }
    let mut form = Form::new(Purpose::Restore(backup.to_owned()), all);
    refresh_choices(model, &mut form);
    form.focus = form.items().first().copied().unwrap_or(Item::Submit);
    Some(form)
}

pub fn setting(model: &Model, key: &str) -> Option<Form> {
    let field = SETTING_FIELDS.iter().find(|f| f.key == key)?;
    let mut row = row(*field);
    row.set(model.setting(key));
    Some(Form::new(Purpose::Setting(key.to_owned()), vec![row]))
}

/// Puts the services and storages that exist now into the rows that offer them. What was picked stays picked.
pub fn refresh_choices(model: &Model, form: &mut Form) {
    for row in &mut form.rows {
        let names: Vec<String> = match row.field.kind {
            FieldKind::Service => model.data.services.iter().map(|s| s.name.clone()).collect(),
            FieldKind::Storage => model.data.storages.iter().map(|s| s.name.clone()).collect(),
            _ => continue,
        };
        row.choices = names.iter().map(Choice::new).chain([Choice::new(ADD)]).collect();
        if !names.iter().any(|n| n == row.value()) {
            row.set(names.first().map_or(ADD, String::as_str));
        }
    }
}

/// What follows from a changed row: defaults of other rows, and what must be looked up.
pub fn changed(model: &Model, form: &mut Form, key: &str) -> Vec<Effect> {
    if form.purpose != Purpose::CreateBackup {
        return Vec::new();
    }
    let mut effects = Vec::new();
    match key {
        "service" => {
            let name = form.text("service").to_owned();
            if let Some(service) = model.data.services.iter().find(|s| s.name == name) {
                if form.row("name").is_some_and(|r| !r.touched) {
                    effects.push(Effect::SuggestName(name.clone()));
                }
                let folder = service.cluster.clone().filter(|c| !c.is_empty()).unwrap_or_else(|| name.clone());
                if let Some(row) = form.row_mut("folder").filter(|r| !r.touched) {
                    row.set(folder);
                }
                if !matches!(model.checks.get(&name), Some(Load::Waiting)) {
                    effects.push(Effect::CheckService(name.clone()));
                }
                if !matches!(model.infos.get(&name), Some(Load::Ready(_))) {
                    effects.push(Effect::ServiceInfo(name));
                }
            }
        }
        "storage" => {
            let name = form.text("storage").to_owned();
            if model.data.storages.iter().any(|s| s.name == name) {
                effects.push(Effect::FreeSpace(name));
            }
        }
        _ => {}
    }
    effects
}

/// The request that a filled restore form stands for.
///
/// Errors: what cannot be read as a pattern or rename; the field's own check has said so before.
pub fn restore_request(form: &Form) -> Result<RestoreRequest, String> {
    let values = form.values();
    let texts = |key: &str| values.get(key).cloned().unwrap_or_default();
    let truth = |key: &str| texts(key).first().is_some_and(|t| t == "true");
    let Purpose::Restore(backup) = &form.purpose else { return Err("this form restores nothing".into()) };
    Ok(RestoreRequest {
        backup: backup.clone(),
        to: form.text("to").to_owned(),
        include: texts("include").iter().map(|t| t.parse()).collect::<Result<_, _>>()?,
        rename: texts("rename").iter().map(|t| t.parse()).collect::<Result<_, _>>()?,
        exact: truth("exact"),
        no_ttl: truth("no_ttl"),
        users_and_roles: truth("users_and_roles"),
        safety_backup: truth("safety_backup"),
    })
}
