//! One watch for each service: that a server is gone, or back, is on the screen within seconds and not at the next probe.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::model::Model;
use super::msg::{Msg, Problem};
use crate::client::Client;
use crate::error::{Error, ErrorKind};

/// After a watch could not begin: a connection string that leads nowhere, a name that is not known.
const AGAIN: Duration = Duration::from_secs(10);

/// A watch keeps connections open. Of more services than this, the rest is only asked once a minute.
const WATCHED: usize = 100;

#[derive(Default)]
pub struct Watches {
    tasks: BTreeMap<String, (u64, AbortHandle)>,
}

impl Watches {
    /// Begins and ends watches, so that there is one for each service as it is now.
    pub fn follow(&mut self, model: &Model, client: &Client, messages: &Sender<Msg>) {
        let watched = || model.data.services.iter().take(WATCHED).map(|s| s.name.as_str());
        let there: HashSet<&str> = watched().collect();
        self.tasks.retain(|name, (edition, task)| {
            let wanted = *edition == model.edition(name) && there.contains(name.as_str());
            if !wanted {
                task.abort();
            }
            wanted
        });
        for service in watched() {
            if !self.tasks.contains_key(service) {
                let edition = model.edition(service);
                let task = tokio::spawn(watch_one(client.clone(), service.to_owned(), edition, messages.clone()));
                self.tasks.insert(service.to_owned(), (edition, task.abort_handle()));
            }
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(_, task)| task.abort());
    }
}

async fn watch_one(client: Client, service: String, edition: u64, messages: Sender<Msg>) {
    loop {
        let (sender, mut answers) = watch::channel(None);
        let say = |heard: Result<(), Problem>| Msg::Heard { service: service.clone(), edition, heard };
        match client.watch_service(&service, sender).await {
            Ok(_watch) => {
                while answers.changed().await.is_ok() {
                    let answer = answers.borrow_and_update().clone();
                    let Some(answer) = answer else { continue };
                    let heard = answer.map_err(|why| Error::new(ErrorKind::Unreachable, why).into());
                    if messages.send(say(heard)).await.is_err() {
                        return;
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::Unreachable => {
                if messages.send(say(Err(e.into()))).await.is_err() {
                    return;
                }
            }
            // What else is wrong with it the probes say, with what to do.
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}
