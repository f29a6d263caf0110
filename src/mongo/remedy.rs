//! Commands that give a user what it lacks: they name the user that the connection string names.

use mongodb::options::{ConnectionString, Credential};

use super::connect::Server;
use crate::domain::secret::Secret;

/// What a user of this program is called where nobody has said another name.
const PROPOSED: &str = "mongokeep";

/// Whoever logs in, and the database that knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Login {
    user: String,
    database: String,
}

impl Login {
    fn of(credential: Option<&Credential>) -> Self {
        let user = credential.and_then(|c| c.username.clone()).unwrap_or_else(|| PROPOSED.to_owned());
        let database = credential.and_then(|c| c.source.clone()).unwrap_or_else(|| "admin".to_owned());
        Self { user, database }
    }

    /// The roles as a list, with their database where the user is of another one.
    fn roles(&self, roles: &str) -> String {
        let role = |name: &str| match self.database.as_str() {
            "admin" => text(name),
            _ => format!("{{role: {}, db: \"admin\"}}", text(name)),
        };
        roles.split(' ').map(role).collect::<Vec<_>>().join(", ")
    }

    fn mongosh(&self, call: &str) -> String {
        let db = match self.database.as_str() {
            "admin" => "db".to_owned(),
            other => format!("db.getSiblingDB({})", text(other)),
        };
        format!("mongosh admin --eval {}", shell_words::quote(&format!("{db}.{call}")))
    }

    fn grant(&self, roles: &str) -> String {
        self.mongosh(&format!("grantRolesToUser({}, [{}])", text(&self.user), self.roles(roles)))
    }

    fn create(&self) -> String {
        let roles = self.roles("backup restore readWriteAnyDatabase clusterMonitor");
        let (user, roles) = (text(&self.user), roles);
        self.mongosh(&format!("createUser({{user: {user}, pwd: passwordPrompt(), roles: [{roles}]}})"))
    }
}

/// A name as the shell of MongoDB reads it.
fn text(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// The command that gives these roles to the user who is logged in at `server`.
pub fn grant(server: &Server, roles: &str) -> String {
    Login::of(server.credential()).grant(roles)
}

/// The command that makes the user whom the connection string names.
pub fn create_user(uri: &Secret) -> String {
    let parsed = ConnectionString::parse(uri.expose()).ok();
    Login::of(parsed.as_ref().and_then(|parsed| parsed.credential.as_ref())).create()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_the_connection_string_is_meant() {
        let of = |uri: &str| create_user(&Secret::new(uri));
        let create = of("mongodb://keeper:hunter2@h/?replicaSet=rs");
        assert!(create.contains("createUser({user: \"keeper\", ") && !create.contains("hunter2"), "{create}");
        assert!(of("mongodb://h/").contains("{user: \"mongokeep\", "));
        let other = of("mongodb://keeper:hunter2@h/?authSource=people");
        assert!(other.contains("db.getSiblingDB(\"people\").createUser"), "{other}");
        assert!(other.contains("{role: \"backup\", db: \"admin\"}"), "{other}");
        let login = Login { user: "o'neil".into(), database: "admin".into() };
        let grant = shell_words::split(&login.grant("backup restore")).unwrap();
        assert_eq!(grant[3], "db.grantRolesToUser(\"o'neil\", [\"backup\", \"restore\"])");
    }
}
