//! Commands that give a user what it lacks, as they are typed: to the hosts of the service, about the user that its connection
//! string names. Who may run them, and the password, is left to the reader.

use mongodb::options::{ClientOptions, ConnectionString, Credential, HostInfo, Tls};

use super::connect::Server;
use crate::domain::command_line::quoted;
use crate::domain::secret::Secret;

/// Stands for the name of a user who may do what a command does.
const ADMIN: &str = "ADMIN";
/// Stands for the user of a connection string that names none.
const USER: &str = "USER";

/// Where a command goes, and whom it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Login {
    /// `host:port[,host:port]`; empty where they are not known.
    hosts: String,
    /// What comes behind the hosts: the replica set, or that only this member is meant.
    query: String,
    /// The flags that say how TLS is spoken.
    tls: Vec<String>,
    /// None: nobody logs in.
    user: Option<String>,
    /// The database that knows the user.
    database: String,
}

impl Login {
    fn of_server(server: &Server) -> Self {
        Self::of(server.options())
    }

    fn of(options: &ClientOptions) -> Self {
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        let set = options.repl_set_name.as_deref();
        Self::to(hosts.join(","), set, options.tls.as_ref(), options.credential.as_ref())
    }

    fn of_uri(uri: &Secret) -> Self {
        let Ok(parsed) = ConnectionString::parse(uri.expose()) else { return Self::default() };
        let hosts = match &parsed.host_info {
            HostInfo::HostIdentifiers(hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            // A name that leads to the hosts by DNS.
            _ => String::new(),
        };
        Self::to(hosts, parsed.replica_set.as_deref(), parsed.tls.as_ref(), parsed.credential.as_ref())
    }

    fn to(hosts: String, set: Option<&str>, tls: Option<&Tls>, credential: Option<&Credential>) -> Self {
        let query = set.map_or_else(String::new, |set| format!("?replicaSet={set}"));
        let tls = match tls {
            Some(Tls::Enabled(options)) => {
                let files =
                    [("--tlsCAFile", &options.ca_file_path), ("--tlsCertificateKeyFile", &options.cert_key_file_path)];
                let named = files.into_iter().filter_map(|(flag, file)| {
                    let file = file.as_ref()?.to_string_lossy();
                    Some([flag.to_owned(), quoted(&file)])
                });
                std::iter::once("--tls".to_owned()).chain(named.flatten()).collect()
            }
            _ => Vec::new(),
        };
        let user = credential.map(|c| c.username.clone().unwrap_or_else(|| USER.to_owned()));
        let database = credential.and_then(|c| c.source.clone()).unwrap_or_else(|| "admin".to_owned());
        Self { hosts, query, tls, user, database }
    }

    /// The roles as a list, with their database where the user is of another one.
    fn roles(&self, roles: &str) -> String {
        let role = |name: &str| match self.database.as_str() {
            "admin" => text(name),
            _ => format!("{{role: {}, db: \"admin\"}}", text(name)),
        };
        roles.split(' ').map(role).collect::<Vec<_>>().join(", ")
    }

    /// The command that runs `script` there. It asks for the password of whoever runs it.
    fn mongosh(&self, script: &str) -> String {
        let hosts = if self.hosts.is_empty() { "HOST:PORT" } else { &self.hosts };
        let uri = format!("mongodb://{hosts}/admin{}", self.query);
        let mut words = vec!["mongosh".to_owned(), shell_words::quote(&uri).into_owned()];
        words.extend(self.tls.iter().cloned());
        if self.user.is_some() {
            words.extend(["-u".to_owned(), ADMIN.to_owned()]);
        }
        words.extend(["--eval".to_owned(), shell_words::quote(script).into_owned()]);
        words.join(" ")
    }

    /// The same for a method of the database that knows the user.
    fn of_users(&self, call: &str) -> String {
        let db = match self.database.as_str() {
            "admin" | "" => "db".to_owned(),
            other => format!("db.getSiblingDB({})", text(other)),
        };
        self.mongosh(&format!("{db}.{call}"))
    }

    fn user(&self) -> String {
        text(self.user.as_deref().unwrap_or(USER))
    }

    fn grant(&self, roles: &str) -> String {
        self.of_users(&format!("grantRolesToUser({}, [{}])", self.user(), self.roles(roles)))
    }

    fn create(&self) -> String {
        let roles = self.roles("backup restore readWriteAnyDatabase clusterMonitor");
        let user = self.user();
        // Whoever is to be made is not yet who runs it: a server that lets nobody in wants an administrator.
        let of = Self { user: Some(ADMIN.to_owned()), ..self.clone() };
        of.of_users(&format!("createUser({{user: {user}, pwd: passwordPrompt(), roles: [{roles}]}})"))
    }
}

/// A name as the shell of MongoDB reads it.
fn text(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// The command that gives these roles to the user who is logged in at `server`.
pub fn grant(server: &Server, roles: &str) -> String {
    Login::of_server(server).grant(roles)
}

/// The command that makes the user whom the connection string names.
pub fn create_user(uri: &Secret) -> String {
    Login::of_uri(uri).create()
}

/// The command that runs `script` on the service of `server`.
pub fn run_there(server: &Server, script: &str) -> String {
    Login::of_server(server).mongosh(script)
}

/// The command that runs `script` where a connection string leads, of which nobody answers yet.
pub fn run_at(uri: &Secret, script: &str) -> String {
    Login::of_uri(uri).mongosh(script)
}

/// The same on the member at `server` alone, without the replica set: there is none yet.
pub fn run_on_member(server: &Server, script: &str) -> String {
    let login = Login::of_server(server);
    let hosts = login.hosts.split(',').next().unwrap_or_default().to_owned();
    Login { hosts, query: "?directConnection=true".to_owned(), ..login }.mongosh(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_and_the_hosts_of_the_connection_string_are_meant() {
        let of = |uri: &str| create_user(&Secret::new(uri));
        let create = of("mongodb://keeper:hunter2@h:27100,i/?replicaSet=rs");
        assert!(
            create.starts_with("mongosh 'mongodb://h:27100,i:27017/admin?replicaSet=rs' -u ADMIN --eval "),
            "{create}"
        );
        assert!(create.contains("createUser({user: \"keeper\", ") && !create.contains("hunter2"), "{create}");
        assert!(of("mongodb://h/").contains("{user: \"USER\", "));
        assert!(of("mongodb+srv://h.example.net/").contains("mongodb://HOST:PORT/admin"));
        let other = of("mongodb://keeper:hunter2@h/?authSource=people");
        assert!(other.contains("db.getSiblingDB(\"people\").createUser"), "{other}");
        assert!(other.contains("{role: \"backup\", db: \"admin\"}"), "{other}");
        let login = Login { user: Some("o'neil".into()), database: "admin".into(), ..Login::default() };
        let grant = shell_words::split(&login.grant("backup restore")).unwrap();
        assert_eq!(grant[5], "db.grantRolesToUser(\"o'neil\", [\"backup\", \"restore\"])");
    }

    #[test]
    fn only_a_service_with_a_login_asks_for_one() {
        let at = |uri: &str| run_at(&Secret::new(uri), "rs.status()");
        assert_eq!(at("mongodb://h:27100/"), "mongosh mongodb://h:27100/admin --eval 'rs.status()'");
        assert_eq!(
            at("mongodb://me:secret@h/?tls=true&tlsCAFile=/etc/ca.pem"),
            "mongosh mongodb://h:27017/admin --tls --tlsCAFile /etc/ca.pem -u ADMIN --eval 'rs.status()'"
        );
    }
}
