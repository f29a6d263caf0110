//! What happens to a job whose attempt failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::error::{Error, Result};

/// At most this many automatic retries.
pub const MAX_RETRIES: u32 = 10;
/// At most this long between two attempts.
pub const MAX_INTERVAL: Duration = Duration::from_secs(8 * 3600);

/// Manual: the failed job waits for a person. Auto: it is tried again `retries` times, `interval` apart.
/// JSON: `{"mode": "auto", "retries": 3, "interval": 900}` (seconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub mode: RetryMode,
    pub retries: u32,
    /// Seconds between the end of an attempt and the start of the next.
    pub interval: u64,
}

words! {
    /// Who tries a failed run again.
    pub enum RetryMode {
        Manual => "manual",
        Auto => "auto",
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { mode: RetryMode::Manual, retries: 3, interval: 900 }
    }
}

impl RetryPolicy {
    /// Refuses more than [`MAX_RETRIES`] retries and more than [`MAX_INTERVAL`] between them.
    pub fn check(&self) -> Result<()> {
        if self.retries > MAX_RETRIES {
            return Err(Error::invalid("retries", format!("{} is more than {MAX_RETRIES}", self.retries)));
        }
        if self.interval > MAX_INTERVAL.as_secs() {
            return Err(Error::invalid("retry-interval", "more than 8 h"));
        }
        Ok(())
    }

    /// How long to wait after attempt `attempt` (counted from 1) failed, or `None` when it was the last.
    pub fn next(&self, attempt: u32) -> Option<Duration> {
        (self.mode == RetryMode::Auto && attempt <= self.retries).then(|| Duration::from_secs(self.interval))
    }
}

/// Reads `2s`, `15m`, `8h`, `3d`; a bare number is refused, because nobody agrees on its unit.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{} is not a duration; write 2s, 15m, 8h or 3d", super::text::quoted(text));
    let text_ = text.trim();
    let unit = text_.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text_[..text_.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// The inverse of [`parse_duration`], in the largest unit that is exact.
pub fn format_duration(seconds: u64) -> String {
    match seconds {
        0 => "0s".into(),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end() {
        let auto = RetryPolicy { mode: RetryMode::Auto, retries: 2, interval: 60 };
        assert_eq!([1, 2, 3].map(|a| auto.next(a).is_some()), [true, true, false]);
        assert_eq!(RetryPolicy::default().next(1), None);
        assert!(RetryPolicy { retries: 11, ..auto }.check().is_err());
        assert!(RetryPolicy { interval: 8 * 3600 + 1, ..auto }.check().is_err());
    }

    #[test]
    fn durations_round_trip() {
        for text in ["2s", "15m", "8h", "3d"] {
            assert_eq!(format_duration(parse_duration(text).unwrap().as_secs()), text);
        }
        for bad in ["", "5", "-1s", "1.5h", "s", "1w", "99999999999999999999d", "1é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
