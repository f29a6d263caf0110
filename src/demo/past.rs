//! The days before the demo began, made within seconds.
//!
//! A daemon in this process runs the schedules of three services while its present goes from one moment of the past to the
//! next, and a [`TimeMachine`] moves the positions of the servers with it. So everything that is seen afterwards was
//! really done: each backup can be restored, and each moment that is said to be recorded as well.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveTime, TimeDelta, TimeZone, Utc};
use mongodb::bson::{Document, RawDocumentBuf, doc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::driver_error::{driver, is_capped_position_lost};
use super::stage::{STORAGE, Stage, say, values};
use super::time_machine::TimeMachine;
use super::writer::Writer;
use crate::client::{Client, restore_request};
use crate::config::machine_zone;
use crate::domain::clock;
use crate::domain::cron::Cron;
use crate::domain::job::{Job, JobState};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// The services, in the order of the servers of the stage.
pub const ORDERS: &str = "orders";
pub const MEDIA: &str = "media";
pub const REPORTS: &str = "reports";

const DAYS: u64 = 3;
/// Anything that is waited for here takes a second or two; a machine under load takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at whether something has happened.
const LOOK: Duration = Duration::from_millis(20);
/// How much is changed between two moments of the past.
const CHANGES: u64 = 6;

/// Name, service, storage, type, crontab line, and how many backups stay.
const SCHEDULES: [[&str; 6]; 3] = [
    ["orders-live", ORDERS, STORAGE, "pitr", "0 2 * * *", "14"],
    ["media-nightly", MEDIA, STORAGE, "full", "30 3 * * *", "7"],
    ["reports-nightly", REPORTS, DISK, "full", "0 4 * * *", "7"],
];
/// The storage that is gone in the end.
pub const DISK: &str = "usb-disk";

/// What happens at a moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The applications go on writing.
    Work,
    /// The schedule of this number is due.
    Run(usize),
    /// Recording is off for two hours, and so much is imported that the oplog does not reach back.
    Gap,
    /// Carts are restored from the newest backup.
    Restore,
    /// A backup is read back, and pinned.
    Verify,
    /// The disk of [`DISK`] is unplugged.
    Unplug,
}

/// Makes the past on `stage`, whose daemon does not run yet; `writer` writes to its first server. In the end its services
/// have the addresses of the servers themselves, and recording is switched off. Returns the folder that was unplugged, and
/// where it would belong.
pub async fn make_past(stage: &Stage, writer: &Writer) -> Result<(PathBuf, PathBuf)> {
    let began = Instant::now();
    let now = Utc::now();
    let zone = machine_zone();
    let day = now.with_timezone(&zone).date_naive() - Days::new(DAYS);
    let morning = NaiveTime::from_hms_opt(1, 30, 0).unwrap_or_default();
    // Where clocks were set forward at that time, the day begins later.
    let begin = zone.from_local_datetime(&day.and_time(morning)).earliest();
    let begin = begin.map_or(now - TimeDelta::days(DAYS as i64), |at| at.to_utc());

    let mut machines = Vec::new();
    for set in &stage.sets {
        let address = set.addresses().remove(0);
        machines.push(TimeMachine::before(&address, seconds(now - begin)).await?);
    }
    clock::set_behind(whole(now - begin));
    let stop = CancellationToken::new();
    let (home, told) = (stage.client.home().clone(), stop.clone());
    let daemon = tokio::spawn(async move { crate::daemon::run_daemon_until(&home, told).await });
    let past = Past { stage, writer, machines, zone };
    let made = past.make(begin, now).await;
    past.present();
    stop.cancel();
    ended(daemon).await?;
    let folders = made?;
    for (name, set) in [ORDERS, MEDIA, REPORTS].iter().zip(&stage.sets) {
        let uri = values([("uri", &*set.uri())]);
        stage.client.call(move |c| c.edit_service(name, &uri)).await?;
    }
    say(&format!("a history of {DAYS} days, made in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(folders)
}

async fn ended(daemon: JoinHandle<Result<()>>) -> Result<()> {
    daemon.await.map_err(|e| Error::new(ErrorKind::Internal, "the daemon of the demo's past").source(e))?
}

fn whole(behind: TimeDelta) -> TimeDelta {
    TimeDelta::seconds(behind.num_seconds().max(0))
}

fn seconds(behind: TimeDelta) -> u32 {
    u32::try_from(whole(behind).num_seconds()).unwrap_or(u32::MAX)
}

struct Past<'a> {
    stage: &'a Stage,
    writer: &'a Writer,
    machines: Vec<TimeMachine>,
    zone: chrono_tz::Tz,
}

impl Past<'_> {
    async fn make(&self, begin: DateTime<Utc>, now: DateTime<Utc>) -> Result<(PathBuf, PathBuf)> {
        until(&self.stage.client, "the daemon runs", |c| c.daemon_runs()).await?;
        let disk = self.stage.folder("usb-disk");
        self.install(&disk).await?;
        let unplugged = self.stage.folder("usb-disk-unplugged");
        for (at, event) in self.events(begin, now) {
            self.go_to(at).await?;
            match event {
                Event::Work => self.work().await,
                Event::Run(number) => self.run(number, at).await?,
                Event::Gap => self.gap().await?,
                Event::Restore => self.restore().await?,
                Event::Verify => self.verify().await?,
                Event::Unplug => std::fs::rename(&disk, &unplugged)
                    .map_err(|e| crate::error::io(format_args!("unplugging {}", disk.display()), e))?,
            }
        }
        // What is recorded from here on lies in the present: there the next daemon goes on, once a part of it is stored.
        self.go_to(Utc::now()).await?;
        self.present();
        let newest = newest(&self.stage.databases[0]).await?;
        let began = Instant::now();
        loop {
            self.work().await;
            switch_recording(&self.stage.client, false).await?;
            let status = self.stage.client.call(|c| c.pitr_status(Some(ORDERS))).await?;
            if status.iter().any(|s| s.ranges.iter().any(|range| range.to_ts > newest)) {
                break;
            }
            limit(began, "the recording has reached the present")?;
            switch_recording(&self.stage.client, true).await?;
        }
        Ok((unplugged, disk))
    }

    /// The clock of this process goes with that of the machine again.
    fn present(&self) {
        clock::set_behind(TimeDelta::zero());
    }

    /// Everything that happens, in its order. Two things never happen at once.
    fn events(&self, begin: DateTime<Utc>, now: DateTime<Utc>) -> Vec<(DateTime<Utc>, Event)> {
        let end = now - TimeDelta::minutes(15);
        let mut events = Vec::new();
        let mut last_of_disk = end;
        for (number, [_, _, storage, _, cron, _]) in SCHEDULES.into_iter().enumerate() {
            let Ok(cron) = Cron::parse(cron) else { continue };
            let mut at = begin;
            while let Some(due) = cron.next_after(self.zone, at).filter(|due| *due < end) {
                events.push((due, Event::Run(number)));
                if storage == DISK {
                    last_of_disk = due;
                }
                at = due;
            }
        }
        let hours = |hours| begin + TimeDelta::hours(hours);
        events.push((hours(31), Event::Gap));
        events.push((hours(37), Event::Restore));
        events.push((hours(50), Event::Verify));
        events.push((last_of_disk - TimeDelta::minutes(50), Event::Unplug));
        let work = (1..).map(|n| begin + TimeDelta::minutes(n * 137)).take_while(|at| *at < end);
        events.extend(work.map(|at| (at, Event::Work)));
        events.sort();
        events
    }

    /// Services, storages and schedules, as a person adds them.
    async fn install(&self, disk: &std::path::Path) -> Result<()> {
        let client = &self.stage.client;
        for ((name, set), machine) in [ORDERS, MEDIA, REPORTS].iter().zip(&self.stage.sets).zip(&self.machines) {
            let uri = set.uri().replace(&set.addresses()[0], &machine.address());
            let cluster = if *name == REPORTS { "office" } else { "shop" };
            let service = values([("name", name), ("uri", &uri), ("cluster", cluster)]);
            client.call(move |c| c.add_service(&service)).await?;
        }
        for (name, folder) in [(STORAGE, self.stage.folder("backups")), (DISK, disk.join("backups"))] {
            let folder = folder.display().to_string();
            let storage = values([("name", name), ("type", "filesystem"), ("path", &folder)]);
            client.call(move |c| c.add_storage(&storage)).await?;
        }
        let zone = self.zone.name();
        for [name, service, storage, kind, cron, retention] in SCHEDULES {
            let schedule = values([
                ("name", name),
                ("service", service),
                ("storage", storage),
                ("type", kind),
                ("cron", cron),
                ("timezone", zone),
                ("retention", retention),
            ]);
            client.call(move |c| c.add_schedule(&schedule)).await?;
        }
        Ok(())
    }

    /// Goes on to a later moment; what is past by now stays past.
    async fn go_to(&self, at: DateTime<Utc>) -> Result<()> {
        if at <= clock::now() {
            return Ok(());
        }
        let behind = Utc::now() - at;
        for (machine, database) in self.machines.iter().zip(&self.stage.databases) {
            machine.step(seconds(behind), newest(database)).await?;
        }
        clock::set_behind(whole(behind));
        // Every application does something now and then, so that what is backed up is of this moment.
        for database in &self.stage.databases {
            let note = doc! {"appendOplogNote": 1, "data": {"mongokeep": "demo"}};
            database.database("admin").run_command(note).await.map_err(|e| driver("writing into the oplog", e))?;
        }
        Ok(())
    }

    async fn work(&self) {
        self.writer.wait_for(self.writer.changes() + CHANGES).await;
    }

    async fn run(&self, number: usize, due: DateTime<Utc>) -> Result<()> {
        let name = SCHEDULES[number][0];
        self.done(name, move |job| job.schedule.as_deref() == Some(name) && job.due_at == Some(due)).await.map(drop)
    }

    async fn gap(&self) -> Result<()> {
        switch_recording(&self.stage.client, false).await?;
        let database = &self.stage.databases[0];
        let last = newest(database).await?;
        let imports = database.database("shop").collection::<Document>("imports");
        let began = Instant::now();
        let pad = "x".repeat(1 << 20);
        while oldest(database).await?.t <= last.t {
            imports.insert_one(doc! {"pad": &pad}).await.map_err(|e| driver("importing", e))?;
            limit(began, "the oplog rolls over")?;
        }
        imports.drop().await.map_err(|e| driver("ending the import", e))?;
        // From here on it is large enough for whatever is tried out.
        let large = doc! {"replSetResizeOplog": 1, "size": 990.0};
        database.database("admin").run_command(large).await.map_err(|e| driver("enlarging the oplog", e))?;
        self.go_to(clock::now() + TimeDelta::hours(2)).await?;
        switch_recording(&self.stage.client, true).await?;
        self.base().await
    }

    /// A new base, as follows a gap or a restore.
    async fn base(&self) -> Result<()> {
        let job = self.stage.client.call(|c| c.run_schedule(SCHEDULES[0][0])).await?;
        self.done("the base", move |j| j.id == job.id).await.map(drop)
    }

    async fn restore(&self) -> Result<()> {
        let client = &self.stage.client;
        let newest = client.call(|c| Ok(c.backups()?.into_iter().find(|b| b.service == ORDERS && b.is_good()))).await?;
        let Some(backup) = newest else { return Err(Error::new(ErrorKind::Internal, "the demo's past has no backup")) };
        let request = restore_request(&values([("backup", &backup.name), ("to", ORDERS), ("include", "shop.carts")]))?;
        // As applications are stopped before a restore.
        let pause = self.writer.pause();
        pause(true);
        let plan = client.plan_restore(&request).await?;
        let job = client.call(move |c| c.restore(&request, &plan)).await?;
        let done = self.done("the restore", move |j| j.id == job.id).await;
        pause(false);
        done?;
        self.go_to(clock::now() + TimeDelta::minutes(4)).await?;
        self.base().await
    }

    async fn verify(&self) -> Result<()> {
        let client = &self.stage.client;
        let oldest =
            client.call(|c| Ok(c.backups()?.into_iter().rfind(|b| b.service == ORDERS && b.is_good()))).await?;
        let Some(backup) = oldest else { return Err(Error::new(ErrorKind::Internal, "the demo's past has no backup")) };
        let name = backup.name.clone();
        client.call(move |c| c.pin_backup(&name, true)).await?;
        let job = client.call(move |c| c.verify_backup(&backup.name, None)).await?;
        self.done("the verification", move |j| j.id == job.id).await.map(drop)
    }

    /// Waits for the end of a job.
    async fn done(&self, what: &str, is: impl Fn(&Job) -> bool + Send + Copy + 'static) -> Result<Job> {
        let began = Instant::now();
        loop {
            let found = self.stage.client.call(move |c| Ok(c.jobs()?.into_iter().find(is))).await?;
            match found {
                Some(job) if job.state.is_finished() => {
                    let is_expected = job.state == JobState::Succeeded || job.storage.as_deref() == Some(DISK);
                    if is_expected {
                        return Ok(job);
                    }
                    let why = job.error.unwrap_or_else(|| job.state.word().to_owned());
                    return Err(Error::new(ErrorKind::Failed, format!("the demo's past: {what}: {why}")));
                }
                _ => limit(began, what)?,
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Switches the recording of the orders on or off, and returns when it is.
pub async fn switch_recording(client: &Client, on: bool) -> Result<()> {
    client.call(move |c| c.enable_schedule(SCHEDULES[0][0], on)).await?;
    until(client, "the recording is switched", move |c| {
        Ok(c.pitr_status(Some(ORDERS))?.iter().any(|status| status.running == on))
    })
    .await
}

async fn until(
    client: &Client,
    what: &str,
    is: impl Fn(&Client) -> Result<bool> + Send + Clone + 'static,
) -> Result<()> {
    let began = Instant::now();
    while !client.call(is.clone()).await? {
        limit(began, what)?;
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn limit(began: Instant, what: &str) -> Result<()> {
    if began.elapsed() < PATIENCE {
        return Ok(());
    }
    let seconds = PATIENCE.as_secs();
    Err(Error::new(ErrorKind::Failed, format!("the demo's past: waited {seconds} s until {what}")))
}

async fn newest(client: &mongodb::Client) -> Result<Timestamp> {
    end_of_oplog(client, -1).await
}

async fn oldest(client: &mongodb::Client) -> Result<Timestamp> {
    end_of_oplog(client, 1).await
}

async fn end_of_oplog(client: &mongodb::Client, order: i32) -> Result<Timestamp> {
    let oplog = client.database("local").collection::<RawDocumentBuf>("oplog.rs");
    let fail = |e| driver("reading the oplog", e);
    let began = Instant::now();
    let entry = loop {
        match oplog.find_one(doc! {}).sort(doc! {"$natural": order}).await {
            // It was removed while it was read.
            Err(e) if is_capped_position_lost(&e) => limit(began, "the oplog can be read")?,
            answer => break answer.map_err(fail)?,
        }
    };
    let ts = entry.as_ref().and_then(|entry| entry.get_timestamp("ts").ok());
    ts.map(|ts| Timestamp::new(ts.time, ts.increment))
        .ok_or_else(|| Error::new(ErrorKind::Failed, "the oplog of the demo is empty"))
}
