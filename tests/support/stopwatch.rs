//! How long something takes where the machine lets it go on: a promise of seconds is no promise of a machine that
//! stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often it is looked whether the machine goes on, and what counts as going on.
const LOOK: Duration = Duration::from_millis(20);
const GOES_ON: Duration = Duration::from_millis(60);

/// The time since it was started, without the times in which this process did not get to run although it wanted to.
pub struct Stopwatch {
    began: Instant,
    lost_millis: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Stopwatch {
    pub fn start() -> Self {
        let (lost_millis, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (lost, stopped) = (Arc::clone(&lost_millis), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let asleep = Instant::now();
                std::thread::sleep(LOOK);
                let slept = asleep.elapsed();
                if slept > GOES_ON {
                    lost.fetch_add((slept - LOOK).as_millis() as u64, Ordering::Relaxed);
                }
            }
        });
        Self { began: Instant::now(), lost_millis, stop }
    }

    pub fn elapsed(&self) -> Duration {
        // What stands still just now is counted when it goes on.
        std::thread::sleep(LOOK);
        let lost = Duration::from_millis(self.lost_millis.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(lost)
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What is done at once, and promised within two seconds, takes no longer. Code without optimisation shares the machine
/// with other tests: there it is told from what is never done, or only when something runs out after half a minute.
pub fn at_once() -> Duration {
    Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 2 })
}

/// Processor time that the present thread has used: what others take of the machine is not counted. Where the system
/// does not say it, all time.
pub struct OwnTime(Instant, Option<Duration>);

impl OwnTime {
    pub fn start() -> Self {
        Self(Instant::now(), used())
    }

    pub fn elapsed(&self) -> Duration {
        match (self.1, used()) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => self.0.elapsed(),
        }
    }
}

fn used() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = told.split_whitespace().next()?.parse().ok().filter(|n| *n > 0)?;
    Some(Duration::from_nanos(nanoseconds))
}
