//! What is to be told to somebody, until they were told.
//!
//! Ends of jobs get here by a trigger, in the transaction that ends them; what is wrong for as long as it lasts gets
//! here once, when it begins, and some of it once more when it is over. A row stays until each channel was told or has nothing to tell, so that a daemon that
//! dies forgets nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rusqlite::{Transaction, params};

use super::{Store, from_json, from_word, millis, now, time, to_json, word};
use crate::domain::notification::{Channel, Event, Facts};
use crate::error::Result;

/// So many notices wait at most; the oldest are dropped. A channel that was down for long should not be followed by
/// a day of old news.
const LIMIT: i64 = 1_000;

/// One notice that a channel was not told yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub facts: Facts,
}

/// Something that is wrong for as long as it lasts. `subject` is the name of a service or storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub event: Event,
    pub subject: String,
    pub since: DateTime<Utc>,
    pub text: String,
}

impl Store {
    /// The oldest notice that `channel` was not told yet.
    pub fn outbox_next(&self, channel: Channel) -> Result<Option<Pending>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT id, created_at, facts FROM outbox WHERE NOT {} ORDER BY id LIMIT 1",
                column(channel)
            ))?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let facts = from_json(&row.get::<_, String>(2)?)?;
            Ok(Some(Pending { id: row.get(0)?, at: time(row.get(1)?), facts }))
        })
    }

    /// `channel` was told, or has nothing to tell, or was given up on.
    pub fn outbox_done(&self, id: i64, channel: Channel) -> Result<()> {
        self.write(|t| {
            t.execute(&format!("UPDATE outbox SET {} = 1 WHERE id = ?1", column(channel)), [id])?;
            t.execute("DELETE FROM outbox WHERE command_done AND webhook_done", [])?;
            t.execute("DELETE FROM meta WHERE key = ?1", [failing(channel)])?;
            Ok(())
        })
    }

    /// Notes why `channel` could not be told, for people who look meanwhile. Returns how many old notices were dropped
    /// because too many wait.
    pub fn outbox_failed(&self, channel: Channel, error: &str) -> Result<usize> {
        self.write(|t| {
            t.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                params![failing(channel), error],
            )?;
            Ok(t.execute(
                "DELETE FROM outbox WHERE id <= (SELECT id FROM outbox ORDER BY id DESC LIMIT 1 OFFSET ?1)",
                [LIMIT],
            )?)
        })
    }

    /// Whether anybody is to be told anything.
    pub fn outbox_is_empty(&self) -> Result<bool> {
        self.read(|c| Ok(c.query_row("SELECT NOT EXISTS (SELECT 1 FROM outbox)", [], |r| r.get(0))?))
    }

    /// Why a channel cannot be told at present.
    pub fn outbox_error(&self, channel: Channel) -> Result<Option<String>> {
        self.read(|c| {
            let mut statement = c.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
            let mut rows = statement.query([failing(channel)])?;
            Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
        })
    }

    /// Brings the conditions of one event up to date: those that are new are to be told, those that are over are
    /// forgotten. `present`: subject and text of each that holds now. The text of one that goes on is only replaced when
    /// `refresh` says that it matters.
    pub fn set_conditions(&self, event: Event, present: &[(String, String)], refresh: bool) -> Result<()> {
        self.set_conditions_until(event, present, refresh, &|_| None)
    }

    /// The same, where somebody is told when one is over: in the words that `over` has for its subject, if it has any.
    pub fn set_conditions_until(
        &self,
        event: Event,
        present: &[(String, String)],
        refresh: bool,
        over: &dyn Fn(&str) -> Option<String>,
    ) -> Result<()> {
        let known = self.conditions()?.into_iter().filter(|c| c.event == event);
        let known: BTreeMap<String, String> = known.map(|c| (c.subject, c.text)).collect();
        let same = |(subject, text): &(String, String)| known.get(subject).is_some_and(|old| !refresh || old == text);
        if known.len() == present.len() && present.iter().all(same) {
            // Most looks change nothing, and should not write.
            return Ok(());
        }
        self.write(|t| {
            for gone in known.keys().filter(|s| present.iter().all(|(subject, _)| subject != *s)) {
                end(t, event, gone, over(gone).as_deref())?;
            }
            for (subject, text) in present {
                match known.get(subject) {
                    Some(_) => put(t, event, subject, text)?,
                    None => begin(t, event, subject, text)?,
                }
            }
            Ok(())
        })
    }

    /// Nobody is told that it is over.
    pub fn forget_condition(&self, event: Event, subject: &str) -> Result<()> {
        self.write(|t| end(t, event, subject, None))
    }

    /// What was wrong when the daemon last looked.
    pub fn conditions(&self) -> Result<Vec<Condition>> {
        self.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT kind, subject, since, text FROM conditions ORDER BY kind, subject")?;
            super::all(statement.query([])?, |row| {
                Ok(Condition {
                    event: from_word(row.get(0)?)?,
                    subject: row.get(1)?,
                    since: time(row.get(2)?),
                    text: row.get(3)?,
                })
            })
        })
    }
}

/// Something is wrong from now on, or wrong anew: somebody is to be told.
pub fn begin(t: &Transaction<'_>, event: Event, subject: &str, text: &str) -> Result<()> {
    put(t, event, subject, text)?;
    write_notice(t, event, subject, text, false)
}

/// It is no longer wrong, if it was: somebody is to be told with `text`, or nobody.
pub fn end(t: &Transaction<'_>, event: Event, subject: &str, text: Option<&str>) -> Result<()> {
    let known =
        t.execute("DELETE FROM conditions WHERE kind = ?1 AND subject = ?2", params![word(&event)?, subject])? > 0;
    match text.filter(|_| known) {
        Some(text) => write_notice(t, event, subject, text, true),
        None => Ok(()),
    }
}

fn put(t: &Transaction<'_>, event: Event, subject: &str, text: &str) -> Result<()> {
    t.execute(
        "INSERT INTO conditions (kind, subject, since, text) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (kind, subject) DO UPDATE SET text = ?4",
        params![word(&event)?, subject, millis(now()), text],
    )?;
    Ok(())
}

fn write_notice(t: &Transaction<'_>, event: Event, subject: &str, text: &str, over: bool) -> Result<()> {
    let is_storage = matches!(event, Event::StorageFull | Event::StateCopy);
    let named = |wanted: bool| wanted.then(|| subject.to_owned());
    let (service, storage) = (named(!is_storage), named(is_storage));
    let facts = Facts::Condition { event, service, storage, text: text.to_owned(), over };
    t.execute("INSERT INTO outbox (facts, created_at) VALUES (?1, ?2)", params![to_json(&facts)?, millis(now())])?;
    Ok(())
}

fn column(channel: Channel) -> &'static str {
    match channel {
        Channel::Command => "command_done",
        Channel::Webhook => "webhook_done",
    }
}

fn failing(channel: Channel) -> String {
    format!("notify_{channel}_error")
}
