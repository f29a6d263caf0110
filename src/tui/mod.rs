//! The terminal interface: `(Model, Msg) -> Vec<Effect>` in one pure function, views that only read the model, and one
//! driver that performs effects through the client.
//!
//! It must never do I/O in a key handler, draw from a worker, or decide anything the client does not let a script
//! decide too. Text from servers and storages is escaped where it is put on the screen.

pub mod action;
mod availability;
pub mod common_keys;
mod customs;
mod driver;
mod effects;
mod environment;
pub mod form;
mod form_row;
pub mod forms;
pub mod heard;
mod input;
pub mod keymap;
pub mod layer;
pub mod list;
pub mod list_rows;
mod messages;
mod missed;
pub mod model;
pub mod moment;
pub mod msg;
pub mod offers;
mod page_cache;
pub mod palette;
pub mod picker;
pub mod prerequisites;
pub mod preview;
pub mod reach;
mod recording;
mod screens;
pub mod search;
pub mod service_strip;
mod store_reader;
mod terminal;
pub mod theme;
pub mod timeline;
pub mod update;
pub mod view;
mod watches;

use crate::client::Client;
use crate::error::Result;

/// What the command line decides about the screen.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Nothing is changed, and nothing that changes is offered.
    pub read_only: bool,
    /// Only bytes below 0x80 are sent; also with a locale that is not UTF-8.
    pub ascii: bool,
    /// The folder that `--home` gave: commands that a person is shown to type carry it.
    pub home: Option<String>,
    /// Nothing moves by itself; also with `NO_MOTION`, or `ui.motion = false`.
    pub no_motion: bool,
    /// Wins over `ui.theme`; `NO_COLOR` wins over both.
    pub theme: Option<String>,
    /// A line about what to try, above everything else until Esc takes it away.
    pub tip: Option<String>,
    /// Whoever called ends the daemon with the screen: no job goes on in the background.
    pub ends_daemon: bool,
}

/// Runs the interface until a person quits or the terminal goes. Jobs go on afterwards.
///
/// Errors: the terminal cannot be used; everything else is shown on the screen.
pub async fn run_screen(client: Client, options: Options) -> Result<()> {
    driver::drive(client, options).await
}
