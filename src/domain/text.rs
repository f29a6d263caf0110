//! Text from outside, made safe to show.
//!
//! Collection names, server errors and object keys are data: a control character in one of them must never reach
//! a terminal, where it could move the cursor or set the clipboard.

use std::fmt::Write;

use chrono::{DateTime, Utc};

/// `text` with every control character (C0, DEL, C1) and every character that reorders or hides text
/// (bidirectional overrides, zero-width characters, line separators) written as `\n`, `\t`, `\u{1b}`.
pub fn escape(text: &str) -> String {
    if !text.chars().any(is_unsafe) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// Bytes that should be a text, safe to show: what is no UTF-8 is written as `\\xff`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// `text` between quotes, escaped once: what a person typed, in a sentence about it.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", escape(text))
}

/// A short time: below a minute its tenths count.
pub fn moments(millis: u64) -> String {
    if millis < 60_000 { format!("{:.1} s", millis as f64 / 1000.0) } else { duration(millis / 1000) }
}

/// Whether [`escape`] writes `c` differently.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c as u32, 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x2069 | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe007f)
}

/// A size as people read it: `512 B`, `1.4 MB`, `12.4 GB`; powers of 1000.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = n as f64;
    let mut unit = 0;
    // 999.5 and above would be rounded to "1000" of the smaller unit.
    while value >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A whole number with thousands separated: `1,204,311`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// So many of something: `1 collection`, `1,204 documents`. Only for nouns whose plural takes an s.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A moment in a sentence of a log, a report or an error: `2026-11-21 13:02:11 UTC`. Tables use the zone that a person chose.
pub fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A length of time as people say it: `4 s`, `12 min`, `2 h 05`, `9 d`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min", seconds / 60),
        6_000..=172_799 => format!("{} h {:02}", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_escaped_once() {
        assert_eq!(quoted("a\nb\u{1b}[31m"), "\"a\\nb\\u{1b}[31m\"");
        let said = "a\nb".parse::<crate::domain::pitr::When>().unwrap_err();
        assert!(said.starts_with("\"a\\nb\" is neither"), "{said}");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(counted(0, "slice"), "0 slices");
        assert_eq!(counted(1, "slice"), "1 slice");
        assert_eq!(counted(1_204, "replica set"), "1,204 replica sets");
    }

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        assert_eq!(escape("shop.orders é 日本"), "shop.orders é 日本");
        assert_eq!(escape("a\u{1b}[2J\u{9b}\n\u{202e}"), "a\\u{1b}[2J\\u{9b}\\n\\u{202e}");
    }

    #[test]
    fn sizes_keep_three_digits() {
        let got: Vec<String> = [0, 999, 1_000, 1_449_000, 999_600, 12_400_000_000, 505_000_000].map(bytes).into();
        assert_eq!(got, ["0 B", "999 B", "1.0 kB", "1.4 MB", "1.0 MB", "12.4 GB", "505 MB"]);
    }

    #[test]
    fn counts_and_durations() {
        assert_eq!([0, 999, 1_000, 1_204_311].map(count), ["0", "999", "1,000", "1,204,311"]);
        assert_eq!([4, 720, 7_500, 800_000].map(duration), ["4 s", "12 min", "2 h 05", "9 d"]);
    }
}
