//! What every command of one run shares.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ArgMatches;
use tokio_util::sync::CancellationToken;

use super::output::Out;
use super::redact::Redactor;
use super::{args, logging};
use crate::client::Client;
use crate::config::{Home, Settings};
use crate::error::{Error, ErrorKind, Result};

pub struct Context {
    pub out: Out,
    pub home: Home,
    pub read_only: bool,
    /// The arguments as typed, without the program's name.
    pub typed: Vec<String>,
    pub redactor: Redactor,
    interrupted: Interrupted,
}

impl Context {
    pub fn new(matches: &ArgMatches, typed: &[OsString]) -> Result<Self> {
        let given = args::one(matches, "home");
        let folder = given.clone().or_else(|| std::env::var("MONGOKEEP_HOME").ok().filter(|h| !h.is_empty()));
        let home = Home::resolve(folder.as_deref().map(Path::new))?;
        let quiet = args::given(matches, "quiet");
        logging::start(matches, quiet, &home);
        // How times are shown is no reason to fail; commands that need the settings say what is wrong with them.
        let zone = Settings::load(&home).and_then(|s| s.get("ui.timezone")).ok().and_then(|zone| zone.parse().ok());
        Ok(Self {
            out: Out::new(args::one(matches, "output").as_deref() == Some("json"), quiet, zone).with_home(given),
            home,
            read_only: args::given(matches, "read-only"),
            typed: typed.iter().skip(1).map(|a| a.to_string_lossy().into_owned()).collect(),
            redactor: Redactor::new(typed),
            interrupted: Interrupted::default(),
        })
    }

    pub fn client(&self) -> Result<Client> {
        Client::open(&self.home, self.read_only)
    }

    /// What Ctrl-C leaves behind is known only to the command that runs; it says so here.
    pub fn interrupted(&self) -> Interrupted {
        self.interrupted.clone()
    }
}

/// The error that Ctrl-C ends a command with.
#[derive(Clone, Default)]
pub struct Interrupted {
    left: Arc<Mutex<Option<(String, String)>>>,
    cancel: CancellationToken,
    takes_back: Arc<AtomicBool>,
}

impl Interrupted {
    pub fn leaves(&self, what: impl Into<String>, hint: impl Into<String>) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some((what.into(), hint.into()));
    }

    /// The token that Ctrl-C cancels, for a command that then removes what it wrote and ends by itself.
    pub fn token(&self) -> CancellationToken {
        self.takes_back.store(true, Ordering::Relaxed);
        self.cancel.clone()
    }

    /// Tells the command. Whether it ends by itself.
    pub fn cancel(&self) -> bool {
        self.cancel.cancel();
        self.takes_back.load(Ordering::Relaxed)
    }

    pub fn error(&self) -> Error {
        match self.left.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some((what, hint)) => Error::new(ErrorKind::Cancelled, format!("interrupted: {what}")).hint(hint),
            None => Error::new(ErrorKind::Cancelled, "interrupted"),
        }
    }
}
