//! `mongokeep restore`: the plan first, then the restore of exactly that plan.

use clap::{Arg, ArgMatches, Command};

use super::args::{flags, given, switch, values};
use super::context::Context;
use super::wait::{self, Daemon};
use super::{job, plan};
use crate::client::restore_request;
use crate::domain::field::Field;
use crate::domain::fields::{DATA_FOLDER_FIELDS, FILES_FIELDS, IDENTITY_FIELDS, MOMENT_FIELDS, RESTORE_FIELDS};
use crate::error::Result;

pub fn command() -> Command {
    let fields: Vec<Field> = RESTORE_FIELDS.iter().filter(|f| f.key != "backup").copied().collect();
    Command::new("restore")
        .about("Restore a backup, or a service to a moment of its past; without --yes the plan is printed")
        .arg_required_else_help(true)
        .arg(Arg::new("backup").value_name("BACKUP").help("name of the backup"))
        .args(flags(&fields))
        .args(flags(MOMENT_FIELDS))
        .args(flags(DATA_FOLDER_FIELDS))
        .args(flags(FILES_FIELDS))
        .args(flags(IDENTITY_FIELDS))
        .arg(switch("dry-run", "print the plan, change nothing, exit 0"))
        .arg(switch("yes", "do what the plan says"))
        .arg(switch("wait", "until it is done; exit 1 if it fails"))
}

pub async fn run_restore(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let mut all = values(matches, RESTORE_FIELDS, true, &context.out)?;
    all.extend(values(matches, MOMENT_FIELDS, true, &context.out)?);
    all.extend(values(matches, DATA_FOLDER_FIELDS, true, &context.out)?);
    all.extend(values(matches, FILES_FIELDS, true, &context.out)?);
    all.extend(values(matches, IDENTITY_FIELDS, true, &context.out)?);
    let request = restore_request(&all)?;
    let client = context.client()?;
    let plan = client.plan_restore(&request).await?;
    if !given(matches, "yes") || given(matches, "dry-run") {
        context.out.result(&plan, || plan::restore(context, &plan))?;
        if given(matches, "dry-run") {
            return Ok(0);
        }
        client.may_restore(&request, &plan)?;
        return Err(plan::not_confirmed(&plan::settled(&context.typed, &plan), "nothing was restored"));
    }
    for warning in &plan.warnings {
        context.out.warn(warning);
    }
    let job = client.call(move |c| c.restore(&request, &plan)).await?;
    if given(matches, "wait") {
        return wait::ended(context, &client, job, Daemon::Started).await;
    }
    job::queued(context, job)
}
