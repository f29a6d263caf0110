//! A described field: the flag, the form row, the validation, the help text and the JSON key come from one entry.

/// What kind of value a field takes; a form picks its widget from it, the command line its arity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Free text.
    Text,
    /// Text that is never shown; on the command line its flag is `--<key>-file`, or `-` for standard input.
    Secret,
    /// A switch.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number from `.0` to `.1`.
    Integer(u64, u64),
    /// `2s 15m 8h 3d`.
    Duration,
    /// A whole number, or a text that says more; a file has it without quotes or in quotes.
    NumberOrText,
    /// A path on this machine.
    Path,
    /// Several values; the flag may be repeated, the form row is separated by commas.
    List,
    /// The name of a service that exists.
    Service,
    /// The name of a storage that exists.
    Storage,
    /// The name of a backup that exists.
    Backup,
}

/// One field of a form or command. `key` is the JSON key (snake_case) and, with dashes, the flag.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub key: &'static str,
    pub label: &'static str,
    pub help: &'static str,
    pub kind: FieldKind,
    pub required: bool,
    /// Text of the default; empty: none.
    pub default: &'static str,
    /// Whether it stands under "Advanced".
    pub advanced: bool,
    /// Checks one non-empty value; the error is a sentence that does not name the field.
    pub check: fn(&str) -> Result<(), String>,
    /// What is shown of a value; all of it, where no part of it is a secret.
    pub shown: fn(&str) -> String,
    /// Values that are offered, each with what it means in words; others may be typed.
    pub picks: &'static [(&'static str, &'static str)],
    /// What a number counts.
    pub unit: &'static str,
}

impl Field {
    /// A required text field; change what differs with struct update or the builder methods.
    pub const fn new(key: &'static str, label: &'static str, kind: FieldKind, help: &'static str) -> Self {
        Self {
            key,
            label,
            help,
            kind,
            required: false,
            default: "",
            advanced: false,
            check: any,
            shown: str::to_owned,
            picks: &[],
            unit: "",
        }
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = text;
        self
    }

    pub const fn advanced(mut self) -> Self {
        self.advanced = true;
        self
    }

    pub const fn check(mut self, check: fn(&str) -> Result<(), String>) -> Self {
        self.check = check;
        self
    }

    pub const fn shown(mut self, shown: fn(&str) -> String) -> Self {
        self.shown = shown;
        self
    }

    pub const fn picks(mut self, picks: &'static [(&'static str, &'static str)]) -> Self {
        self.picks = picks;
        self
    }

    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Whether other values than the offered ones can be.
    pub fn takes_any(&self) -> bool {
        !matches!(self.kind, FieldKind::Bool | FieldKind::Choice(_))
    }

    /// What a value means in words: those of the offered one, else the value with its unit.
    pub fn words(&self, value: &str) -> String {
        if let Some((_, words)) = self.picks.iter().find(|(offered, _)| *offered == value) {
            return (*words).to_owned();
        }
        let shown = (self.shown)(value);
        let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        match self.unit {
            unit if !unit.is_empty() && is_number => format!("{shown} {unit}"),
            _ if shown.is_empty() => "none".to_owned(),
            _ => shown,
        }
    }

    /// How messages call it: `retry-interval`.
    pub fn name(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The flag without its dashes: `retry-interval`, for a secret `secret-access-key-file`.
    pub fn flag(&self) -> String {
        let flag = self.name();
        if self.kind == FieldKind::Secret { format!("{flag}-file") } else { flag }
    }

    /// Whether an error that names `key` means this field: by its key, or by its flag with underscores.
    pub fn is_called(&self, key: &str) -> bool {
        key == self.key || (self.kind == FieldKind::Secret && key.strip_suffix("_file") == Some(self.key))
    }

    /// Checks the text of a form row or flag: required, kind, then the field's own rule.
    pub fn validate(&self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return if self.required { Err("is needed".into()) } else { Ok(()) };
        }
        match self.kind {
            FieldKind::Choice(words) if !words.contains(&text) => {
                return Err(format!("must be one of {}", words.join(", ")));
            }
            FieldKind::Integer(low, high) => match text.parse::<u64>() {
                Ok(n) if (low..=high).contains(&n) => {}
                _ => return Err(format!("must be a whole number from {low} to {high}")),
            },
            FieldKind::Duration => {
                super::retry::parse_duration(text)?;
            }
            FieldKind::Bool if !["true", "false"].contains(&text) => return Err("must be true or false".into()),
            _ => {}
        }
        (self.check)(text)
    }
}

fn any(_: &str) -> Result<(), String> {
    Ok(())
}
