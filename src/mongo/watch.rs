//! Whether a deployment can be reached, as it changes: the driver watches each server over a connection of its own, which
//! costs a server next to nothing, and hears at once when one is gone.

use std::time::Duration;

use mongodb::event::EventHandler;
use mongodb::event::sdam::{SdamEvent, TopologyDescription};
use mongodb::{Client, ServerType};
use tokio::sync::watch;

use super::connect::read_options;
use super::error::{self, Place};
use crate::domain::secret::Secret;
use crate::error::Result;

/// How often a server that is gone is looked for, and how soon one that says nothing more is missed.
const EVERY: Duration = Duration::from_secs(2);
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is heard of a deployment: nothing yet, that a member answers, or why none does.
pub type Heard = Option<Result<(), String>>;

/// Watches the deployment of `service` until it is dropped, and says in `heard` what it hears. Needs no rights: nobody logs
/// in. `heard` keeps the newest answer only.
///
/// Errors: the connection string cannot be used, or the name in it cannot be looked up.
pub async fn watch_service(service: &str, uri: &Secret, heard: watch::Sender<Heard>) -> Result<Watch> {
    let mut options = read_options(service, uri, PATIENCE).await?;
    options.heartbeat_freq = Some(EVERY);
    options.sdam_event_handler = Some(EventHandler::callback(move |event| {
        if let SdamEvent::TopologyDescriptionChanged(change) = event
            && let Some(answer) = answer(&change.new_description)
        {
            heard.send_if_modified(|known| {
                let answer = Some(answer.clone());
                let news = *known != answer;
                *known = answer;
                news
            });
        }
    }));
    let place = Place { service: service.to_owned(), hosts: String::new(), seconds: PATIENCE.as_secs() };
    let client = Client::with_options(options).map_err(|e| error::map(&place, "reading the connection string", &e))?;
    Ok(Watch { _client: client })
}

/// Ends when it is dropped.
pub struct Watch {
    _client: Client,
}

/// `None`: no server has said anything yet.
fn answer(description: &TopologyDescription) -> Heard {
    let servers = description.servers();
    if servers.values().any(|server| server.server_type() != ServerType::Unknown) {
        return Some(Ok(()));
    }
    let mut failures: Vec<(String, String)> =
        servers.iter().filter_map(|(address, server)| Some((address.to_string(), reason(server.error()?)))).collect();
    failures.sort();
    let (_, why) = failures.first()?;
    let hosts: Vec<&str> = failures.iter().map(|(address, _)| address.as_str()).collect();
    Some(Err(crate::domain::text::escape(&format!("{why} ({})", hosts.join(", ")))))
}

/// `connection refused`: what is left of a driver's error for one line.
fn reason(error: &mongodb::error::Error) -> String {
    match &*error.kind {
        mongodb::error::ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            "connection refused".to_owned()
        }
        mongodb::error::ErrorKind::Io(e) => e.to_string(),
        kind => kind.to_string(),
    }
}
