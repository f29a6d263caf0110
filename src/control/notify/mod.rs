//! Delivering a notice: a command that is run, a webhook that is called.

use crate::config::Notify;
use crate::domain::notification::{Channel, Notice};
use crate::engine::attempt::host_name;
use crate::error::{Error, ErrorKind, Result};

mod command;
mod webhook;

/// Whether the settings say where this channel leads.
pub fn configured(settings: &Notify, channel: Channel) -> bool {
    match channel {
        Channel::Command => !settings.command.is_empty(),
        Channel::Webhook => settings.webhook_url.is_some(),
    }
}

/// Sends a test notice to `channel`. Returns how it went, in words.
///
/// Errors: `NotFound` when the channel is not set up.
pub async fn test(settings: &Notify, channel: Channel) -> Result<String> {
    if !configured(settings, channel) {
        let key = match channel {
            Channel::Command => "notify.command",
            Channel::Webhook => "notify.webhook_url",
        };
        return Err(Error::new(ErrorKind::NotFound, format!("there is no {channel} to notify: {key} is empty"))
            .hint(format!("mongokeep settings set {key} VALUE")));
    }
    deliver(settings, channel, &Notice::test(&host_name())).await
}

/// Delivers one notice. Returns how it went, in words.
///
/// Errors: why it did not arrive.
pub async fn deliver(settings: &Notify, channel: Channel, notice: &Notice) -> Result<String> {
    let mut body =
        serde_json::to_vec(notice).map_err(|e| Error::new(ErrorKind::Internal, "writing a notice").source(e))?;
    body.push(b'\n');
    match channel {
        Channel::Command => command::run_command(&settings.command, body).await,
        Channel::Webhook => {
            let url = settings.webhook_url.as_deref().unwrap_or_default();
            webhook::post_notice(url, settings.webhook_secret_file.as_deref(), body).await
        }
    }
}
