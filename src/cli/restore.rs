//! `mongokeep restore`: the plan first, then the restore of exactly that plan.

use clap::{Arg, ArgMatches, Command};

use super::args::{flags, given, switch, values};
use super::context::{Context, blocking};
use super::wait::{self, Daemon};
use super::{job, plan};
use crate::client::Values;
use crate::domain::field::Field;
use crate::domain::fields::{self, MOMENT_FIELDS, RESTORE_FIELDS};
use crate::domain::pitr::PointInTime;
use crate::domain::restore::RestoreRequest;
use crate::error::{Error, Result};

pub fn command() -> Command {
    let fields: Vec<Field> = RESTORE_FIELDS.iter().filter(|f| f.key != "backup").copied().collect();
    Command::new("restore")
        .about("Restore a backup, or a service to a moment of its past; without --yes the plan is printed")
        .arg_required_else_help(true)
        .arg(Arg::new("backup").value_name("BACKUP").help("name of the backup"))
        .args(flags(&fields))
        .args(flags(MOMENT_FIELDS))
        .arg(switch("dry-run", "print the plan, change nothing, exit 0"))
        .arg(switch("yes", "do what the plan says"))
        .arg(switch("wait", "until it is done; exit 1 if it fails"))
}

pub async fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let given_values = values(matches, RESTORE_FIELDS, true, &context.out)?;
    let request = request(&given_values, &values(matches, MOMENT_FIELDS, true, &context.out)?)?;
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
    let job = blocking(&client, move |c| c.restore(&request, &plan)).await?;
    if given(matches, "wait") {
        return wait::ended(context, &client, job, Daemon::Started).await;
    }
    job::queued(context, job)
}

fn request(values: &Values, moment: &Values) -> Result<RestoreRequest> {
    let point_in_time = if moment.is_empty() { None } else { Some(point_in_time(values, moment)?) };
    let needed: Vec<Field> =
        RESTORE_FIELDS.iter().filter(|f| f.key != "backup" || point_in_time.is_none()).copied().collect();
    fields::check(&[&needed], values, false)?;
    let text = |key: &str| values.get(key).and_then(|texts| texts.first()).cloned();
    let on = |key: &str| text(key).as_deref() == Some("true");
    Ok(RestoreRequest {
        backup: text("backup").unwrap_or_default(),
        point_in_time,
        to: text("to").ok_or_else(|| Error::invalid("to", "is needed"))?,
        include: parsed(values, "include")?,
        rename: parsed(values, "rename")?,
        exact: on("exact"),
        no_ttl: on("no_ttl"),
        users_and_roles: on("users_and_roles"),
        safety_backup: on("safety_backup"),
    })
}

/// The moment, which stands instead of a backup.
fn point_in_time(values: &Values, moment: &Values) -> Result<PointInTime> {
    let text = |key: &str| moment.get(key).and_then(|texts| texts.first()).cloned();
    if let (None, Some(stray)) = (text("time"), moment.keys().next()) {
        return Err(Error::invalid(stray, "belongs to --time, the moment to go back to"));
    }
    if values.contains_key("backup") {
        let why =
            "is given besides --time; a restore is of a backup, or of a service to a moment (--service S --time WHEN)";
        return Err(Error::invalid("backup", why).hint("--base BACKUP names the backup that a moment is reached from"));
    }
    fields::check(&[MOMENT_FIELDS], moment, false)?;
    let needed = |key: &str| text(key).ok_or_else(|| Error::invalid(key, "is needed"));
    let when = needed("time")?.parse().map_err(|why: String| Error::invalid("time", why))?;
    Ok(PointInTime { service: needed("service")?, when, base: text("base").filter(|b| !b.is_empty()) })
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
        request(&values, &Values::new())
    }

    fn moment(backup: Option<&str>, pairs: &[(&str, &str)]) -> Result<RestoreRequest> {
        let values = |pairs: &[(&str, &str)]| -> Values {
            pairs.iter().map(|(key, text)| ((*key).to_owned(), vec![(*text).to_owned()])).collect()
        };
        let own: Vec<_> = backup.map(|b| ("backup", b)).into_iter().chain([("to", "t")]).collect();
        request(&values(&own), &values(pairs))
    }

    #[test]
    fn a_moment_stands_instead_of_a_backup() {
        let request = moment(None, &[("service", "s"), ("time", "7,2"), ("base", "")]).unwrap();
        assert_eq!(request.point_in_time.unwrap().base, None, "empty is not given");
        let request = moment(None, &[("service", "s"), ("time", "7,2"), ("base", "b")]).unwrap();
        assert_eq!(request.backup, "");
        let moment_of = request.point_in_time.unwrap();
        assert_eq!((moment_of.service.as_str(), moment_of.base.as_deref()), ("s", Some("b")));
        assert_eq!(moment_of.when.to_string(), "7,2");
        for (backup, pairs, field) in [
            (Some("b"), &[("service", "s"), ("time", "latest")][..], "backup: is given besides"),
            (None, &[("time", "latest")], "service: is needed"),
            (None, &[("service", "s")], "service: belongs to --time"),
            (Some("b"), &[("service", "s")], "service: belongs to --time"),
            (Some("b"), &[("base", "x")], "base: belongs to --time"),
            (None, &[("service", "s"), ("time", "yesterday")], "time: "),
            (None, &[("service", "s"), ("time", "2026-11-21T14:02:03.5Z")], "time: "),
            (None, &[("service", "s"), ("time", "latest"), ("base", "a/b")], "base: "),
        ] {
            let error = moment(backup, pairs).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.full().starts_with(field), "{error}");
        }
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
