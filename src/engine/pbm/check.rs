//! Whether PBM can back a service up: its program, its agents, its configuration, each with its remedy.

use chrono::Utc;
use mongodb::bson::doc;

use super::answers::StatusAnswer;
use super::cluster;
use super::configured;
use super::console::Console;
use super::failure::Reason;
use super::program::{ASK_LIMIT, Reply};
use crate::domain::backup::Model;
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
    let mut reply = console.program.ask(cluster::QUESTION, ASK_LIMIT, &ctx.cancel).await;
    if matches!(&reply, Ok(Reply::Refused(refusal)) if refusal.reason == Reason::Unknown) {
        reply = console.program.ask(cluster::WITHOUT_OPERATION, ASK_LIMIT, &ctx.cancel).await;
    }
    match reply {
        Ok(Reply::Answer(answer)) => match answer.parse::<StatusAnswer>("status") {
            Ok(status) => {
                let locks = console.program.locks(&ctx.cancel).await.unwrap_or_default();
                let redactor = console.program.redactor();
                let found = cluster::check(&service.name, &status, &locks, console.version, redactor, Utc::now());
                items.extend(found);
                items.extend(recording(&status, &console));
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
    items.push(configuration(ctx, service, &console).await);
    if model == Model::Physical {
        items.push(match edition(ctx, service).await {
            Ok(item) => item,
            Err(e) => failed("pbm_edition", &e),
        });
    }
    items
}

/// Whose configuration PBM has. Which one a backup needs depends on its storage, which the backup names.
async fn configuration(ctx: &Context, service: &Service, console: &Console<'_>) -> CheckItem {
    let known = async {
        let present = configured::read(&console.program, &ctx.cancel).await?;
        Ok(match present {
            None => None,
            Some(present) => Some(console.wrote(&present).await?),
        })
    };
    let remedy = format!("mongokeep service configure {} --storage NAME", service.name);
    match known.await {
        Err(e) => failed("pbm_configuration", &e),
        Ok(None) => {
            let detail = "none yet: the first backup writes it";
            item("pbm_configuration", CheckState::Pass, detail, "")
        }
        Ok(Some(true)) => {
            item("pbm_configuration", CheckState::Pass, "written by this installation, and unchanged", "")
        }
        Ok(Some(false)) => {
            let detail = "somebody else wrote or changed it; mongokeep overwrites it only when it is asked to";
            item("pbm_configuration", CheckState::Warn, detail, &remedy)
        }
    }
}

fn recording(status: &StatusAnswer, console: &Console<'_>) -> Option<CheckItem> {
    let pitr = status.pitr.as_ref()?;
    let error = pitr.error.as_deref().map(|error| console.program.redactor().shown(error));
    Some(match (pitr.conf, pitr.run, error) {
        (true, _, Some(error)) => item("pbm_recording", CheckState::Warn, &error, "make a full backup"),
        (true, false, None) => {
            item("pbm_recording", CheckState::Warn, "switched on, and not running", "make a full backup")
        }
        (true, true, None) => item("pbm_recording", CheckState::Pass, "PBM records the oplog", ""),
        (false, ..) => return None,
    })
}

/// Physical backups need a server that can hold a backup cursor for PBM.
async fn edition(ctx: &Context, service: &Service) -> Result<CheckItem> {
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
            let remedy = format!(
                "make logical backups, or physical ones by mongokeep itself: mongokeep service edit {} --engine native",
                service.name
            );
            item("pbm_edition", CheckState::Fail, &detail, &remedy)
        }
    })
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
