//! Whether PBM can back a service up: its program, its agents, its configuration, each with its remedy.

use mongodb::bson::doc;
use serde_json::Value;

use super::answers::StatusAnswer;
use super::cluster;
use super::configured;
use super::console::Console;
use super::failure::Reason;
use super::program::{ASK_LIMIT, Reply};
use super::redact::Redactor;
use crate::domain::backup::Model;
use crate::domain::clock;
use crate::domain::service::{CheckItem, CheckState, Service};
use crate::domain::text::escape;
use crate::engine::Context;
use crate::error::Result;
use crate::mongo::Server;
use crate::mongo::connect::CHECK_TIMEOUT;

/// Runs the checks.
pub async fn check(ctx: &Context, service: &Service, model: Model) -> Vec<CheckItem> {
    let console = match Console::open(ctx, service).await {
        Ok(console) => console,
        Err(e) => return vec![failed("pbm_program", &e)],
    };
    let path = escape(&console.program.path().to_string_lossy());
    let mut items = vec![item("pbm_program", CheckState::Pass, &format!("{path}, version {}", console.version), "")];
    let mut answered = None;
    let mut reply = console.program.ask(cluster::QUESTION, ASK_LIMIT, &ctx.cancel).await;
    if matches!(&reply, Ok(Reply::Refused(refusal)) if refusal.reason == Reason::Unknown) {
        reply = console.program.ask(cluster::WITHOUT_OPERATION, ASK_LIMIT, &ctx.cancel).await;
    }
    match reply {
        Ok(Reply::Answer(answer)) => match answer.parse::<StatusAnswer>("status") {
            Ok(status) => {
                let locks = console.program.locks(&ctx.cancel).await.unwrap_or_default();
                let redactor = console.program.redactor();
                let found = cluster::check(&service.name, &status, &locks, console.version, redactor, clock::now());
                items.extend(found);
                answered = Some(status);
            }
            Err(e) => items.push(failed("pbm_status", &e)),
        },
        Ok(Reply::Refused(refusal)) if refusal.reason == Reason::Unconfigured => {
            let detail = "PBM has no configuration yet, and names no nodes without one; the first backup writes it";
            let remedy = format!("mongokeep service configure {} --storage NAME --yes", service.name);
            items.push(item("pbm_status", CheckState::Warn, detail, &remedy));
        }
        Ok(Reply::Refused(refusal)) => {
            items.push(cluster::check_refused(&service.name, &refusal));
            return items;
        }
        Err(e) => {
            items.push(failed("pbm_status", &e));
            return items;
        }
    }
    match configured::read(&console.program, &ctx.cancel).await {
        Ok(present) => {
            items.extend(answered.as_ref().and_then(|s| recording(s, present.as_ref(), console.program.redactor())));
            items.push(configuration(&console, service, present.as_ref()).await);
        }
        Err(e) => items.push(failed("pbm_configuration", &e)),
    }
    if model == Model::Physical {
        let is_sharded = answered.as_ref().is_some_and(|status| status.cluster.iter().flatten().count() > 1);
        items.push(match edition(ctx, service, is_sharded).await {
            Ok(item) => item,
            Err(e) => failed("pbm_edition", &e),
        });
    }
    items
}

/// Whose configuration PBM has. Which one a backup needs depends on its storage, which the backup names.
async fn configuration(console: &Console<'_>, service: &Service, present: Option<&Value>) -> CheckItem {
    let Some(present) = present else {
        let detail = "none yet: the first backup writes it";
        return item("pbm_configuration", CheckState::Pass, detail, "");
    };
    let remedy = format!("mongokeep service configure {} --storage NAME", service.name);
    match console.done_by_others(present, "it").await {
        Err(e) => failed("pbm_configuration", &e),
        Ok(None) => item("pbm_configuration", CheckState::Pass, "written by this installation, and unchanged", ""),
        Ok(Some(done)) => {
            let detail = format!("{done}; mongokeep overwrites it only when it is asked to");
            item("pbm_configuration", CheckState::Warn, &detail, &remedy)
        }
    }
}

/// Whether PBM records the oplog, how often it stores what it has, and what is wrong with it.
fn recording(status: &StatusAnswer, present: Option<&Value>, redactor: &Redactor) -> Option<CheckItem> {
    let pitr = status.pitr.as_ref()?;
    let span =
        present.and_then(|present| present.get("pitr")?.get("oplogSpanMin")?.as_f64()).filter(|span| *span > 0.0);
    let span = match span {
        Some(minutes) => format!("oplogSpanMin is {minutes}"),
        None => "oplogSpanMin is PBM's own, 10".to_owned(),
    };
    let error = pitr.error.as_deref().map(|error| redactor.shown(error));
    let item = |state, detail: &str, remedy: &str| Some(item("pbm_recording", state, detail, remedy));
    match (pitr.conf, pitr.run, error) {
        (true, _, Some(error)) => item(CheckState::Warn, &format!("{error}; {span}"), "make a full backup"),
        (true, false, None) => {
            let detail =
                format!("switched on, and it has not begun, which takes PBM up to a minute after a base; {span}");
            item(CheckState::Warn, &detail, "make a full backup")
        }
        (true, true, None) => item(CheckState::Pass, &format!("PBM records the oplog; {span}"), ""),
        (false, ..) => item(CheckState::Skip, "off: no point-in-time schedule switched it on", ""),
    }
}

/// Physical backups need a server that can hold a backup cursor for PBM.
async fn edition(ctx: &Context, service: &Service, is_sharded: bool) -> Result<CheckItem> {
    let server = Server::connect(&service.name, &service.uri, CHECK_TIMEOUT).await?;
    let info = server.command(&ctx.cancel, "admin", doc! {"buildInfo": 1}).await?;
    Ok(match info.get_str("psmdbVersion") {
        Ok(version) => {
            let detail = format!("Percona Server for MongoDB {}", escape(version));
            item("pbm_edition", CheckState::Pass, &detail, "")
        }
        Err(_) => {
            let version = escape(info.get_str("version").unwrap_or_default());
            let detail =
                format!("MongoDB {version} is not Percona Server for MongoDB, and PBM copies the files of no other");
            item("pbm_edition", CheckState::Fail, &detail, &other_backups(&service.name, is_sharded))
        }
    })
}

/// What can be done instead. mongokeep itself copies the files of one replica set only.
fn other_backups(service: &str, is_sharded: bool) -> String {
    match is_sharded {
        true => "make logical backups".to_owned(),
        false => format!(
            "make logical backups, or physical ones by mongokeep itself: mongokeep service edit {service} --engine native"
        ),
    }
}

fn failed(id: &str, error: &crate::error::Error) -> CheckItem {
    item(id, CheckState::Fail, &error.full(), error.hint_text().unwrap_or_default())
}

fn item(id: &str, state: CheckState, detail: &str, remedy: &str) -> CheckItem {
    let title = match id {
        "pbm_program" => "Program pbm",
        "pbm_status" => "PBM says its status",
        "pbm_configuration" => "Configuration of PBM",
        "pbm_recording" => "Recording of the oplog",
        "pbm_edition" => "Edition for physical backups",
        other => other,
    };
    CheckItem { id: id.into(), title: title.into(), state, detail: detail.into(), remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::{answer, raw};

    #[test]
    fn the_native_engine_is_no_remedy_for_a_cluster() {
        assert!(other_backups("prod", false).ends_with("service edit prod --engine native"));
        assert_eq!(other_backups("prod", true), "make logical backups");
    }

    #[test]
    fn the_recording_is_on_off_or_in_trouble() {
        let of = |name: &str, present: Option<&Value>| {
            let item = recording(&answer(name), present, &Redactor::default()).unwrap();
            (item.state, item.detail)
        };
        let present = raw("config-show").value;
        let on = of("pitr-status", Some(&present));
        assert_eq!(on, (CheckState::Pass, "PBM records the oplog; oplogSpanMin is PBM's own, 10".to_owned()));
        let spanned = serde_json::json!({"pitr": {"enabled": true, "oplogSpanMin": 0.1667}});
        assert!(of("pitr-status", Some(&spanned)).1.ends_with("oplogSpanMin is 0.1667"));
        let (state, detail) = of("pitr-nobase-status", Some(&spanned));
        assert!(state == CheckState::Warn && detail.contains("a new backup is required"), "{detail}");
        assert_eq!(of("status-fresh", None).0, CheckState::Skip);
    }
}
