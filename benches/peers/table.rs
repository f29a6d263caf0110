//! The table that comes out.

use crate::measure::{Sample, median};

pub const HEAD: &str = "| | beside | theirs | mongokeep | ratio | goal |\n|---|---|---|---|---|---|";

pub fn seconds(what: &str, peer: &str, theirs: &[Sample], own: &[Sample], goal: &str) -> String {
    let (a, b) = (median(theirs.iter().map(|s| s.seconds)), median(own.iter().map(|s| s.seconds)));
    format!("| {what} | {peer} | {a:.2} s | {b:.2} s | {:.3} | {goal} |", b / a)
}

pub fn size(what: &str, peer: &str, theirs: u64, own: u64, goal: &str) -> String {
    let (a, b) = (theirs as f64 / 1e6, own as f64 / 1e6);
    format!("| {what} | {peer} | {a:.0} MB | {b:.0} MB | {:.2} | {goal} |", b / a)
}

/// Of the tool or agent, and of the daemon.
pub fn memory(what: &str, peer: &str, theirs: u64, own: u64, goal: &str) -> String {
    let (a, b) = (mib(theirs), mib(own));
    format!("| {what} | {peer} | {a:.0} MiB | {b:.0} MiB | {:.2} | {goal} |", b / a)
}

pub fn alone(what: &str, own: &str, goal: &str) -> String {
    format!("| {what} | | | {own} | | {goal} |")
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub fn peak(samples: &[Sample]) -> u64 {
    samples.iter().map(|s| s.peak).max().unwrap_or(0)
}
