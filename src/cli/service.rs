//! `mongokeep service`: deployments that are backed up.

use clap::{Arg, ArgMatches, Command};
use serde::Serialize;
use serde_json::json;

use super::args::{edit_flags, flags, given, group, needed, nothing_to_change, positional, switch, values};
use super::contents::Listed;
use super::context::Context;
use super::plan::not_confirmed;
use super::table::{Column, Pairs, Table};
use super::{backup, schedule};
use crate::client::ServiceView;
use crate::domain::backup::Model;
use crate::domain::cluster::Cluster;
use crate::domain::field::Field;
use crate::domain::fields::SERVICE_FIELDS;
use crate::domain::pitr::Status;
use crate::domain::schedule::Schedule;
use crate::domain::service::{CheckReport, CheckState, ConfigurationPlan, EngineProposal};
use crate::domain::text::{count, escape};
use crate::error::{Error, ErrorKind, Result};

pub fn command() -> Command {
    let name = || positional("name", "NAME", "name of the service");
    let fields: Vec<Field> = fields();
    group("service", "The MongoDB deployments that are backed up")
        .subcommand(
            Command::new("add")
                .about("Add a service; says so when it is a sharded cluster")
                .arg(name())
                .args(flags(&fields)),
        )
        .subcommand(Command::new("list").about("List the services"))
        .subcommand(
            Command::new("show")
                .about("Show a service, without its secrets")
                .arg(name())
                .arg(switch("cluster", "ask its engine for the nodes, and what they are at (PBM)")),
        )
        .subcommand(
            Command::new("edit").about("Change what is given, keep the rest").arg(name()).args(edit_flags(&fields)),
        )
        .subcommand(Command::new("remove").about("Forget a service; its backups stay").arg(name()))
        .subcommand(
            Command::new("check").about("Run the prerequisites of backup and restore").arg(name()).arg(
                Arg::new("model")
                    .long("model")
                    .value_name("logical|physical")
                    .help("of backups of which model [default: logical]"),
            ),
        )
        .subcommand(
            Command::new("configure")
                .about("Give the engine of a service its configuration; plan first (PBM)")
                .arg(name())
                .arg(Arg::new("storage").long("storage").value_name("NAME").required(true).help("where backups go"))
                .arg(
                    Arg::new("folder")
                        .long("folder")
                        .value_name("DIR")
                        .help("in which folder [default: cluster label, else the service]"),
                )
                .arg(switch("dry-run", "print the plan, change nothing, exit 0"))
                .arg(switch("yes", "do what the plan says")),
        )
}

/// The fields that are flags; the name is the argument.
fn fields() -> Vec<Field> {
    SERVICE_FIELDS.iter().filter(|f| f.key != "name").copied().collect()
}

pub async fn run_service(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let out = &context.out;
    let Some((verb, sub)) = matches.subcommand() else { return Ok(2) };
    match verb {
        "list" => {
            let services = context.client()?.services()?;
            out.list(
                &services,
                || table(context, &services),
                "no service yet; add one: mongokeep service add NAME --uri-file F",
            )?;
            Ok(0)
        }
        "add" => {
            let name = needed(sub, "name")?;
            let mut values = values(sub, &fields(), true, out)?;
            values.insert("name".into(), vec![name.clone()]);
            let (service, proposal) = context.client()?.add_service_looking(&values).await?;
            let saved = Saved { service, proposal };
            out.object(&saved, || pairs(context, &saved.service))?;
            saved.say_proposal(context);
            out.note(&format!("added; try it with mongokeep service check {name}"));
            Ok(0)
        }
        "edit" => {
            let name = needed(sub, "name")?;
            let values = values(sub, &fields(), false, out)?;
            if values.is_empty() {
                return Err(nothing_to_change());
            }
            let (service, proposal) = context.client()?.edit_service_looking(&name, &values).await?;
            let saved = Saved { service, proposal };
            out.object(&saved, || pairs(context, &saved.service))?;
            saved.say_proposal(context);
            Ok(0)
        }
        "show" => {
            show(context, &needed(sub, "name")?, given(sub, "cluster")).await?;
            Ok(0)
        }
        "remove" => {
            let name = needed(sub, "name")?;
            context.client()?.remove_service(&name)?;
            out.result(&json!({"removed": name}), || format!("service {name} removed; its backups stay\n"))?;
            Ok(0)
        }
        "configure" => configure(context, sub).await,
        _ => {
            let name = needed(sub, "name")?;
            let model = sub.get_one::<String>("model").map_or(Ok(Model::default()), |word| word.parse());
            let model = model.map_err(|why| Error::invalid("model", why))?;
            let mut report = context.client()?.check_service(&name, model).await?;
            for item in &mut report.items {
                item.remedy = context.out.commands(&item.remedy);
            }
            out.result(&report, || check_text(context, &report))?;
            Ok(u8::from(!report.ok))
        }
    }
}

/// A service that was saved, and the engine that would fit it better.
#[derive(Serialize)]
struct Saved {
    #[serde(flatten)]
    service: ServiceView,
    #[serde(skip_serializing_if = "Option::is_none")]
    proposal: Option<EngineProposal>,
}

impl Saved {
    fn say_proposal(&self, context: &Context) {
        let Some(proposal) = &self.proposal else { return };
        let name = &self.service.name;
        context.out.warn(&format!("service {name} is saved, but it {}", proposal.words()));
        let uri = if proposal.needs_other_uri { " --uri-file F" } else { "" };
        context.out.warn(&format!("mongokeep service edit {name} --engine {}{uri}", proposal.engine.word()));
    }
}

/// Prints what would change, and changes it when that was confirmed.
async fn configure(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let (name, storage) = (needed(matches, "name")?, needed(matches, "storage")?);
    let folder = matches.get_one::<String>("folder").map(String::as_str);
    let client = context.client()?;
    let plan = client.plan_configuration(&name, &storage, folder).await?;
    if given(matches, "yes") && !given(matches, "dry-run") && !plan.is_there {
        client.configure_service(&name, &storage, folder).await?;
        let done = json!({"configured": name, "changes": plan.changes});
        context.out.result(&done, || format!("service {name} has its configuration\n"))?;
        return Ok(0);
    }
    context.out.result(&plan, || configuration_text(context, &plan))?;
    if plan.is_there || given(matches, "dry-run") {
        return Ok(0);
    }
    Err(not_confirmed(&context.typed, "nothing was configured"))
}

fn configuration_text(context: &Context, plan: &ConfigurationPlan) -> String {
    let shown = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), escape);
    let mut text = match (plan.is_there, plan.is_new, plan.changes.is_empty()) {
        (true, ..) => format!("service {} has this configuration already\n", plan.service),
        (_, true, _) => format!("service {} has no configuration yet\n", plan.service),
        (_, _, true) => {
            "no setting that mongokeep decides about would change: what somebody else set stays, secrets are written again, and the \
             whole counts as mongokeep's\n"
                .to_owned()
        }
        _ => {
            let mut table = Table::new([Column::long("SETTING"), Column::long("NOW"), Column::long("THEN")]);
            for change in &plan.changes {
                table.row([escape(&change.key), shown(&change.from), shown(&change.to)]);
            }
            context.out.table(&table)
        }
    };
    plan.notes.iter().for_each(|note| text.push_str(&format!("note: {}\n", escape(note))));
    text
}

/// A service's own page: what it is, its schedules, its backups.
async fn show(context: &Context, name: &str, with_cluster: bool) -> Result<()> {
    let client = context.client()?;
    let cluster = match with_cluster {
        true => Some(client.service_cluster(name).await?.ok_or_else(|| no_cluster(name))?),
        false => None,
    };
    let view = client.service(name)?;
    let mut schedules = client.schedules()?;
    schedules.retain(|s| s.service == name);
    let recorded = client.pitr_status(Some(name))?.into_iter().next();
    let pitr = recorded.filter(|status| status.archive.is_some() || !status.schedules.is_empty());
    let page = Page { service: &view, schedules: &schedules, pitr, cluster };
    let mut backups = client.backups()?;
    backups.retain(|b| b.service == name);
    let listed = Listed::all(&client, &backups)?;
    let out = &context.out;
    out.result(&page, || {
        let recoverable = page.pitr.as_ref().map(|status| super::pitr::recoverable(out, status));
        let mut text = pairs(context, &view).some("recoverable", recoverable).render();
        for (title, table, none) in [
            ("Schedules", schedule::table(context, &schedules), "none; mongokeep schedule add makes one"),
            ("Backups", backup::table(context, &listed), "none; mongokeep backup create makes one"),
        ] {
            let rows = if table.is_empty() { format!("{none}\n") } else { out.table(&table) };
            text.push_str(&format!("\n{title}\n{rows}"));
        }
        if let Some(cluster) = &page.cluster {
            text.push_str(&super::cluster::cluster_text(context, cluster));
        }
        text
    })
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    service: &'a ServiceView,
    schedules: &'a [Schedule],
    /// None: its oplog is not recorded and never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pitr: Option<Status>,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Cluster>,
}

fn no_cluster(name: &str) -> Error {
    let what = format!("service {name} has the engine native, which works on the server alone");
    Error::new(ErrorKind::Unsupported, what).hint(format!("mongokeep service check {name}"))
}

fn table(context: &Context, services: &[ServiceView]) -> Table {
    let mut table = Table::new([
        Column::new("NAME"),
        Column::new("CLUSTER"),
        Column::right("BACKUPS"),
        Column::new("LAST GOOD BACKUP"),
        Column::long("CONNECTION"),
    ]);
    for s in services {
        table.row([
            s.name.clone(),
            s.cluster.clone().unwrap_or_default(),
            count(s.backups),
            context.out.minute(s.last_good_backup_at),
            s.uri.clone(),
        ]);
    }
    table
}

fn pairs(context: &Context, s: &ServiceView) -> Pairs {
    let out = &context.out;
    Pairs::new()
        .add("name", &s.name)
        .add("connection", &s.uri)
        .add("cluster", s.cluster.clone().unwrap_or_default())
        .add("engine", s.engine.word())
        .add("added", out.time(s.created_at))
        .add("production hours", s.production_hours.clone().unwrap_or_else(|| "the setting production_hours".into()))
        .add("backups", count(s.backups))
        .add("last good backup", s.last_good_backup_at.map_or_else(String::new, |at| out.time(at)))
}

fn check_text(context: &Context, report: &CheckReport) -> String {
    let mut table = Table::new([Column::new("RESULT"), Column::new("CHECK"), Column::long("DETAIL")]);
    for item in &report.items {
        let state = match item.state {
            CheckState::Pass => "pass",
            CheckState::Warn => "warn",
            CheckState::Fail => "FAIL",
            CheckState::Skip => "skipped",
        };
        table.row([state.into(), item.title.clone(), item.detail.clone()]);
    }
    let mut text = context.out.table(&table);
    // Remedies are to be copied, so they stand whole and alone on their lines.
    for item in report.items.iter().filter(|i| !i.remedy.is_empty()) {
        text.push_str(&format!("\n{}:\n", escape(&item.title)));
        for line in item.remedy.lines() {
            text.push_str(&format!("  {}\n", escape(line)));
        }
    }
    text
}
