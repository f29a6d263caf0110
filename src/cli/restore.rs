//! `mongokeep restore`: the plan first, then the restore of exactly that plan.

use clap::{Arg, ArgMatches, Command};

use super::args::{flags, given, not_built, one, switch, values};
use super::context::{Context, blocking};
use super::wait::{self, Daemon};
use super::{job, plan};
use crate::client::Values;
use crate::domain::field::Field;
use crate::domain::fields::{self, RESTORE_FIELDS};
use crate::domain::restore::RestoreRequest;
use crate::error::{Error, Result};

pub fn command() -> Command {
    let fields: Vec<Field> = RESTORE_FIELDS.iter().filter(|f| f.key != "backup").copied().collect();
    let later = |id: &'static str, shown: &'static str, help: &'static str| {
        Arg::new(id).long(id).value_name(shown).help(format!("{help} (not built yet in this version)"))
    };
    Command::new("restore")
        .about("Restore a backup; without --yes the plan is printed")
        .arg_required_else_help(true)
        .arg(Arg::new("backup").value_name("BACKUP").help("name of the backup"))
        .args(flags(&fields))
        .arg(later("service", "SERVICE", "point in time: the service whose past is restored"))
        .arg(later("time", "WHEN", "point in time: RFC 3339, T,I or latest"))
        .arg(later("base", "BACKUP", "point in time: begin with this base"))
        .arg(switch("dry-run", "print the plan, change nothing, exit 0"))
        .arg(switch("yes", "do what the plan says"))
        .arg(switch("wait", "until it is done; exit 1 if it fails"))
}

pub async fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let values = values(matches, RESTORE_FIELDS, true, &context.out)?;
    if ["service", "time", "base"].iter().any(|id| one(matches, id).is_some()) {
        return Err(not_built("restore to a point in time (--service, --time, --base)"));
    }
    let request = request(&values)?;
    let client = context.client()?;
    let plan = client.plan_restore(&request).await?;
    if !given(matches, "yes") || given(matches, "dry-run") {
        context.out.result(&plan, || plan::restore(context, &plan))?;
        if given(matches, "dry-run") {
            return Ok(0);
        }
        return Err(plan::not_confirmed(context, "nothing was restored"));
    }
    for warning in &plan.warnings {
        context.out.warn(warning);
    }
    let job = blocking(&client, move |c| c.restore(&request, &plan)).await?;
    if given(matches, "wait") {
        return wait::ended(context, &client, job, Daemon::Started).await;
    }
    job::queued(context, job)
}

fn request(values: &Values) -> Result<RestoreRequest> {
    fields::check(&[RESTORE_FIELDS], values, false)?;
    let text = |key: &str| values.get(key).and_then(|texts| texts.first()).cloned();
    let on = |key: &str| text(key).as_deref() == Some("true");
    Ok(RestoreRequest {
        backup: text("backup").ok_or_else(|| Error::invalid("backup", "is needed"))?,
        point_in_time: None,
        to: text("to").ok_or_else(|| Error::invalid("to", "is needed"))?,
        include: parsed(values, "include")?,
        rename: parsed(values, "rename")?,
        exact: on("exact"),
        no_ttl: on("no_ttl"),
        users_and_roles: on("users_and_roles"),
        safety_backup: on("safety_backup"),
    })
}

fn parsed<T: std::str::FromStr<Err = String>>(values: &Values, key: &str) -> Result<Vec<T>> {
    let texts = values.get(key).map(Vec::as_slice).unwrap_or_default();
    texts.iter().map(|text| text.parse().map_err(|why| Error::invalid(key, why))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn of(pairs: &[(&str, &str)]) -> Result<RestoreRequest> {
        let mut values = Values::new();
        for (key, text) in pairs {
            values.entry((*key).into()).or_default().push((*text).into());
        }
        request(&values)
    }

    #[test]
    fn a_request_is_checked_before_anything_is_asked() {
        let request =
            of(&[("backup", "b"), ("to", "s"), ("rename", "a=b"), ("include", "a"), ("exact", "true")]).unwrap();
        assert!(request.exact && !request.no_ttl && request.rename.len() == 1 && request.include.len() == 1);
        for (key, text) in [("rename", "a=b.c"), ("include", ".x"), ("to", "a/b"), ("exact", "maybe")] {
            let error = of(&[("backup", "b"), ("to", "s"), (key, text)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.full().starts_with(key), "{error}");
        }
        assert!(of(&[("to", "s")]).unwrap_err().full().starts_with("backup: is needed"));
    }
}
