//! How many bytes per second may be stored, which may differ by the hour.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::hours::WeeklyHours;
use super::text::{bytes, duration, quoted};
use crate::domain::clock;

/// `20MB` at any time; `08:00-18:00 20MB` in these hours, and without a limit else; `Mon-Fri 08:00-18:00 20MB, 100MB`.
/// The first rule that holds counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bandwidth {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// `None`: always.
    hours: Option<WeeklyHours>,
    /// Bytes per second; `None`: no limit.
    limit: Option<u64>,
}

/// Below this, a limit is more likely a number without its unit than what a person wants.
const SLOW: u64 = 64_000;

/// What a person is told who sets such a limit, if it is that slow.
pub fn warning(text: &str) -> Option<String> {
    let limits = Bandwidth::parse(text).ok()?.rules.into_iter().filter_map(|rule| rule.limit);
    let slowest = limits.min().filter(|limit| *limit < SLOW)?;
    let meant = if slowest < 1_000 { format!("; was {slowest}MB meant?") } else { String::new() };
    Some(format!(
        "the limit is {} a second, at which a gigabyte takes {}{meant}",
        bytes(slowest),
        duration(1_000_000_000 / slowest)
    ))
}

impl Bandwidth {
    /// A number alone are bytes per second; 0: no limit.
    ///
    /// Errors: a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules = text.split(',').map(|part| rule(part.trim())).collect::<Result<Vec<_>, _>>()?;
        if let Some(n) = rules.iter().position(|rule| rule.hours.is_none())
            && n + 1 < rules.len()
        {
            return Err("the limit without hours comes last: what stands after it never counts".into());
        }
        Ok(Self { rules })
    }

    /// Bytes per second at a moment, on a clock in `zone`; `None`: no limit.
    pub fn at(&self, zone: Tz, moment: DateTime<Utc>) -> Option<u64> {
        let holds = |rule: &&Rule| rule.hours.as_ref().is_none_or(|hours| hours.touch(zone, moment, moment));
        self.rules.iter().find(holds)?.limit
    }
}

/// A limit, and the clock by which its hours are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BandwidthLimit {
    pub limit: Bandwidth,
    pub zone: Tz,
}

impl BandwidthLimit {
    /// Errors: as [`Bandwidth::parse`].
    pub fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        Ok(Self { limit: Bandwidth::parse(text)?, zone })
    }

    /// No limit at any time.
    pub fn none() -> Self {
        Self { limit: Bandwidth::default(), zone: Tz::UTC }
    }

    /// Bytes per second now; `None`: no limit.
    pub fn now(&self) -> Option<u64> {
        self.limit.at(self.zone, clock::now())
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    // Hours have a colon; a rate has none.
    let Some(colon) = text.rfind(':') else { return Ok(Rule { hours: None, limit: rate(text)? }) };
    let Some(space) = text[colon..].find(' ') else {
        return Err(format!("{} has no rate: write 08:00-18:00 20MB", quoted(text)));
    };
    let (hours, limit) = text.split_at(colon + space);
    Ok(Rule { hours: Some(WeeklyHours::parse(hours.trim())?), limit: rate(limit.trim())? })
}

/// `0`, `300000`, `500kB`, `20MB`, `1.5 GB`; powers of 1000.
fn rate(text: &str) -> Result<Option<u64>, String> {
    let wrong =
        || format!("{} is no rate in bytes per second: write 500kB, 20MB, 1.5GB, or 0 for no limit", quoted(text));
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(wrong()),
    };
    let limit = number.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(wrong)? * unit;
    // Anything above is more than any line has.
    if limit > 1e15 || (limit > 0.0 && limit < 1.0) {
        return Err(wrong());
    }
    Ok(Some(limit as u64).filter(|limit| *limit > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, moment: &str) -> Option<u64> {
        Bandwidth::parse(text).unwrap().at("Europe/Paris".parse().unwrap(), moment.parse().unwrap())
    }

    #[test]
    fn a_limit_that_is_hardly_meant_is_remarked() {
        let said = warning("20").unwrap();
        assert!(said.contains("20 B a second") && said.contains("20MB meant?"), "{said}");
        assert!(warning("08:00-18:00 300, 20MB").unwrap().contains("300 B a second"));
        assert!(warning("20kB").is_some_and(|said| !said.contains("meant")));
        for fine in ["0", "64kB", "20MB", "08:00-18:00 20MB, 0", "nonsense"] {
            assert_eq!(warning(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_rate_alone_always_counts() {
        let moment = "2026-11-20T12:00:00Z";
        for (text, expected) in [
            ("0", None),
            ("300000", Some(300_000)),
            ("500kB", Some(500_000)),
            ("20MB", Some(20_000_000)),
            ("20 mb", Some(20_000_000)),
            ("1.5GB", Some(1_500_000_000)),
            ("7 B", Some(7)),
        ] {
            assert_eq!(at(text, moment), expected, "{text}");
        }
    }

    #[test]
    fn hours_are_those_of_the_zone_and_the_first_rule_counts() {
        // 2026-11-20 is a Friday; Paris is an hour ahead of UTC.
        let (office, night) = ("2026-11-20T07:00:00Z", "2026-11-20T06:59:59Z");
        assert_eq!(at("08:00-18:00 20MB", office), Some(20_000_000));
        assert_eq!(at("08:00-18:00 20MB", night), None);
        let several = "Mon-Fri 08:00-18:00 20 MB, 22:00-06:00 0, 100MB";
        assert_eq!(at(several, office), Some(20_000_000));
        assert_eq!(at(several, night), Some(100_000_000));
        assert_eq!(at(several, "2026-11-20T23:00:00Z"), None);
        assert_eq!(at(several, "2026-11-21T09:00:00Z"), Some(100_000_000));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for bad in [
            "",
            "fast",
            "20XB",
            "08:00-18:00",
            "08:00-18:00 ",
            "8-18 20MB",
            "20MB, 08:00-18:00 1MB",
            "-1",
            "1e40",
            "0.2",
            "1.2.3",
        ] {
            assert!(Bandwidth::parse(bad).is_err(), "{bad}");
        }
    }
}
