//! The demo as it opens: three services with a past, and a present in which something goes on.

use super::past::{MEDIA, REPORTS, make_past, switch_recording};
use super::stage::{STORAGE, Stage, say, values};
use super::writer::Errors;
use crate::config::machine_zone;
use crate::error::Result;

/// What a job of the demo may store in a second: slow enough for the running one to be watched.
const BANDWIDTH: &str = "600kB";

/// Makes the past of `stage`, starts what goes on, and opens the screen.
pub async fn living_screen(stage: &Stage) -> Result<u8> {
    let writer = stage.start_writer(Errors::GoOn);
    let client = &stage.client;
    client.call(|c| c.set_setting("pitr.slice_seconds", "5")).await?;
    say("making a history of some days: real backups, whose times lie in the past");
    let (unplugged, disk) = make_past(stage, &writer).await?;
    client.call(|c| c.set_setting("backup.bandwidth_limit", BANDWIDTH)).await?;
    stage.start_daemon().await?;
    let zone = machine_zone();
    let often = values([
        ("name", "reports-every-5-min"),
        ("service", REPORTS),
        ("storage", STORAGE),
        ("cron", "*/5 * * * *"),
        ("timezone", zone.name()),
        ("retention", "3"),
    ]);
    client.call(move |c| c.add_schedule(&often)).await?;
    // The screen does not open with a recording that has not begun yet.
    switch_recording(client, true).await?;
    let running = values([("service", MEDIA), ("storage", STORAGE), ("name", "media-before-the-migration")]);
    client.call(move |c| c.create_backup(&running)).await?;
    let tip = "Try: r on a done backup  2 schedules  3 the lost disk  m messages  q quit";
    say(&format!("{} is unplugged; mv {} {} plugs it in", disk.display(), unplugged.display(), disk.display()));
    let options = crate::tui::Options { tip: Some(tip.into()), ..crate::tui::Options::default() };
    super::show(stage, writer, options).await
}
