//! What is wrong with the recording of oplogs: reported when it lasts, and reported again when it is over.
//!
//! Elections, restarts and short troubles of a storage pass by themselves: the oplog waits. So it is reported only what has
//! lasted for as long as the settings say. A gap is reported by what finds it, at once.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::env::Env;
use crate::config::{Home, Settings};
use crate::domain::clock;
use crate::domain::notification::Event;
use crate::domain::pitr;
use crate::domain::warning::{Recording, recording};
use crate::error::Result;
use crate::store::Store;

const EVERY: Duration = Duration::from_secs(2);
/// Those that last; each service has one of them at a time.
const LASTING: [Event; 3] = [Event::PitrStopped, Event::PitrHeld, Event::PitrLag];

/// When each trouble of a service was first seen.
type Since = HashMap<(String, Event), Instant>;

/// What is wrong with a service now.
struct Trouble {
    service: String,
    event: Event,
    text: String,
    /// It is known already, or has lasted.
    reported: bool,
}

/// Looks now and then until `stop`.
pub async fn watch_recording(env: &Env, stop: &CancellationToken) {
    let mut since = Since::new();
    loop {
        let (home, mut seen) = (env.home.clone(), std::mem::take(&mut since));
        let looked = env.store.with(move |store| {
            let outcome = look_at_all(store, &home, &mut seen);
            Ok((seen, outcome))
        });
        match looked.await {
            Ok((seen, outcome)) => {
                since = seen;
                if let Err(e) = outcome {
                    warn!("looking how recording does: {e}");
                }
            }
            Err(e) => warn!("looking how recording does: {e}"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn look_at_all(store: &Store, home: &Home, since: &mut Since) -> Result<()> {
    let (mut wanted, known) = (store.slicing_wanted()?, store.conditions()?);
    let of_recording = |event| event == Event::PitrGap || LASTING.contains(&event);
    // Where nothing is recorded, or was and is not well yet, there is nothing to read the settings for.
    if wanted.is_empty() && !known.iter().any(|c| of_recording(c.event)) {
        since.clear();
        return Ok(());
    }
    let settings = Settings::load(home)?;
    if !settings.backup_enabled() {
        wanted.clear();
    }
    let limit = settings.notify().pitr_after;
    let is_known = |service: &str, event| known.iter().any(|c| c.event == event && c.subject == service);
    let (mut found, mut well, mut begin) = (BTreeMap::new(), Vec::new(), Vec::new());
    let now = clock::now();
    for wanted in &wanted {
        let service = wanted.service.as_str();
        let state = store.slicer_state(service)?;
        let newest = store.newest_recorded(service, &wanted.storage, &wanted.folder)?;
        let lag = newest.map(|ts| Duration::from_secs(pitr::lag_seconds(ts, now)));
        let state = state.as_ref();
        match limit.map(|limit| recording(service, state, lag, settings.slice_length() + limit, now)) {
            Some(Recording::Wrong(event, text)) => {
                found.insert((service.to_owned(), event), text);
            }
            Some(Recording::Well) => well.push(service),
            Some(Recording::Begins) => begin.push(service),
            None => {}
        }
    }
    since.retain(|key, _| found.contains_key(key));
    let mut troubles = Vec::new();
    for ((service, event), text) in found {
        let began = *since.entry((service.clone(), event)).or_insert_with(Instant::now);
        // What was reported, by whichever daemon, goes on; what is new has to last.
        let reported = is_known(&service, event) || limit.is_some_and(|limit| began.elapsed() >= limit);
        troubles.push(Trouble { service, event, text, reported });
    }
    for event in LASTING {
        let mut present = Vec::new();
        for Trouble { service, event: of, text, reported } in &troubles {
            let before = known.iter().find(|c| c.event == event && c.subject == *service);
            match before {
                _ if *of == event && *reported => present.push((service.clone(), text.clone())),
                // Wrong in another way, which may pass: what is recorded again lags at first. That it is over is reported when
                // all is well, unless the other is reported before.
                Some(before) if *of != event && !reported => present.push((service.clone(), before.text.clone())),
                _ => {}
            }
        }
        // It is not over before it is recorded.
        let waits = known.iter().filter(|c| c.event == event && begin.contains(&c.subject.as_str()));
        present.extend(waits.map(|c| (c.subject.clone(), c.text.clone())));
        let over = |service: &str| {
            let words = match event {
                Event::PitrLag => "recording its oplog has caught up",
                _ => "its oplog is recorded again",
            };
            // Who switched it off knows; and what is wrong in another way now is reported by that.
            well.contains(&service).then(|| format!("{service}: {words}"))
        };
        store.set_conditions_until(event, &present, true, &over)?;
    }
    // After a gap nobody waits for what is no longer recorded.
    for gap in known.iter().filter(|c| c.event == Event::PitrGap) {
        if !wanted.iter().any(|w| w.service == gap.subject) {
            store.forget_condition(gap.event, &gap.subject)?;
        }
    }
    Ok(())
}
