//! `mongokeep schedule retention`: what would be deleted, and why each other backup stays.

use clap::ArgMatches;

use super::args::needed;
use super::context::Context;
use super::table::{Column, Table};
use crate::domain::retention::{PlannedOplog, RetentionPlan};
use crate::domain::text::{bytes, count, counted, escape};
use crate::error::Result;

pub async fn run_retention(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let plan = context.client()?.plan_retention(&needed(matches, "name")?).await?;
    context.out.result(&plan, || text(context, &plan))?;
    Ok(0)
}

fn text(context: &Context, plan: &RetentionPlan) -> String {
    let oplog = plan.oplog.as_ref().map_or_else(String::new, |oplog| window(context, oplog));
    if plan.backups.is_empty() && plan.deleting.is_empty() {
        return format!("{} has made no backup yet\n{oplog}", plan.schedule);
    }
    let mut table = Table::new([
        Column::new("BACKUP"),
        Column::new("STORAGE"),
        Column::long("FOLDER"),
        Column::new("CONSISTENT AT"),
        Column::right("SIZE"),
        Column::new(""),
        Column::long("WHY"),
    ]);
    for backup in &plan.backups {
        table.row([
            backup.name.clone(),
            backup.storage.clone(),
            backup.folder.clone(),
            context.out.minute(Some(backup.at)),
            backup.size_bytes.map_or_else(String::new, bytes),
            if backup.keep { "stays" } else { "goes" }.to_owned(),
            backup.reasons.iter().chain(&backup.error).cloned().collect::<Vec<_>>().join(", "),
        ]);
    }
    for backup in &plan.deleting {
        table.row([
            backup.name.clone(),
            backup.storage.clone(),
            backup.folder.clone(),
            String::new(),
            backup.size_bytes.map_or_else(String::new, bytes),
            "deleting".to_owned(),
            backup.error.clone().unwrap_or_default(),
        ]);
    }
    let mut end = match plan.going().count() as u64 {
        0 => "nothing is deleted\n".to_owned(),
        going => format!("the next run deletes {} and frees {}\n", counted(going, "backup"), bytes(plan.frees_bytes)),
    };
    for warning in &plan.warnings {
        end.push_str(&format!("warning: {}\n", escape(warning)));
    }
    let width = super::output::columns(std::io::stdout());
    format!("{}{end}{oplog}", table.render(width))
}

/// Which oplog slices are deleted, and where the recoverable window begins then.
fn window(context: &Context, oplog: &PlannedOplog) -> String {
    let Some(from) = oplog.from else { return "no oplog slice is deleted\n".to_owned() };
    let from = context.out.time(from);
    let goes = match oplog.slices {
        0 => return format!("no oplog slice is deleted; the recoverable window begins at {from}\n"),
        1 => "1 oplog slice is deleted".to_owned(),
        n => format!("{} oplog slices are deleted", count(n)),
    };
    format!("{goes}, which frees {}; the recoverable window begins at {from}\n", bytes(oplog.frees_bytes))
}
