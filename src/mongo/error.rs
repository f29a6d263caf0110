//! The driver's errors as ours: one place decides the kind, and with it exit code and retry.
//!
//! Nothing here prints a connection string. What the driver says about one may quote it, so that text is only used
//! after the password was looked for in it ([`connection_string`]).

use mongodb::error::{Error as DriverError, ErrorKind as DriverKind, WriteFailure};

use crate::domain::secret::Secret;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind};

/// Codes of server errors that are treated apart
/// (<https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/base/error_codes.yml>).
pub mod code {
    pub const UNAUTHORIZED: i32 = 13;
    pub const AUTHENTICATION_FAILED: i32 = 18;
    pub const NAMESPACE_NOT_FOUND: i32 = 26;
    pub const CURSOR_NOT_FOUND: i32 = 43;
    pub const NAMESPACE_EXISTS: i32 = 48;
    pub const MAX_TIME_EXPIRED: i32 = 50;
    pub const COMMAND_NOT_FOUND: i32 = 59;
    pub const NO_REPLICATION_ENABLED: i32 = 76;
    pub const NOT_YET_INITIALIZED: i32 = 94;
    pub const CAPPED_POSITION_LOST: i32 = 136;
    pub const OPLOG_OUT_OF_RANGE: i32 = 283;
    pub const NO_MAJORITY_READS: i32 = 148;
    pub const COLLECTION_IS_VIEW: i32 = 166;
    pub const QUERY_PLAN_KILLED: i32 = 175;
    pub const OUT_OF_DISK_SPACE: i32 = 14031;
    pub const DUPLICATE_KEY: i32 = 11000;
    /// Of an aggregation.
    pub const UNKNOWN_STAGE: i32 = 40324;
    pub const BACKUP_CURSOR_IN_USE: i32 = 50886;
    pub const BACKUP_CURSOR_CHECKPOINT: i32 = 50915;
    pub const BACKUP_CURSOR_OPLOG_ROLLED_OVER: i32 = 50917;
}

/// Network trouble, elections and shutdowns as the server words them: the same call may succeed a moment later.
const PASSING: [i32; 20] =
    [6, 7, 46, 50, 89, 91, 112, 133, 189, 202, 216, 234, 262, 317, 358, 9001, 10058, 10107, 11600, 11602];

/// `InterruptedAtShutdown` and `ShutdownInProgress`.
const SHUTTING_DOWN: [i32; 2] = [11600, 91];

/// Secondaries that are not (yet) readable.
const NOT_READABLE: [i32; 2] = [13435, 13436];

/// The server's code for `error`, where there is one.
pub fn server_code(error: &DriverError) -> Option<i32> {
    match &*error.kind {
        DriverKind::Command(e) => Some(e.code),
        DriverKind::Write(WriteFailure::WriteError(e)) => Some(e.code),
        DriverKind::Write(WriteFailure::WriteConcernError(e)) => Some(e.code),
        DriverKind::InsertMany(e) => {
            let write = e.write_errors.as_ref().and_then(|w| w.first()).map(|w| w.code);
            write.or_else(|| e.write_concern_error.as_ref().map(|w| w.code))
        }
        _ => None,
    }
}

/// What is known about the deployment an operation went to, for its errors.
#[derive(Debug, Clone)]
pub struct Place {
    pub service: String,
    /// `host:port[,host:port]`.
    pub hosts: String,
    /// How long the driver looks for a server.
    pub seconds: u64,
}

/// `doing` (`reading shop.orders`) failed on `place` with what the driver reported.
pub fn map(place: &Place, doing: &str, error: &DriverError) -> Error {
    let service = &place.service;
    let hosts = escape(&place.hosts);
    let doing = escape(doing);
    let told = |kind: ErrorKind, text: &str| Error::new(kind, format!("service {service}: {doing}: {}", escape(text)));
    match &*error.kind {
        DriverKind::Authentication { message, .. } => wrong_password(service, &hosts, message),
        DriverKind::ServerSelection { message, .. } => {
            if let Some(wire) = too_old(message) {
                return unsupported_version(service, &hosts, wire);
            }
            let cause = selection_cause(message);
            let text = format!(
                "service {service}: cannot reach MongoDB at {hosts}: no usable member within {} s",
                place.seconds
            );
            let error =
                Error::new(ErrorKind::Unreachable, if cause.is_empty() { text } else { format!("{text} ({cause})") });
            error.hint(selection_hint(&cause))
        }
        DriverKind::DnsResolve { message, .. } => Error::new(
            ErrorKind::Unreachable,
            format!("service {service}: cannot look up {hosts}: {}", escape(message)),
        )
        .hint("check the host name in the connection string and this machine's DNS"),
        DriverKind::Io(e) => Error::new(
            ErrorKind::Unreachable,
            format!("service {service}: {doing}: the connection to {hosts} broke: {e}"),
        )
        .hint("check that mongod is running there and that the network lets this machine through"),
        DriverKind::ConnectionPoolCleared { .. } => {
            told(ErrorKind::Unreachable, &format!("the connections to {hosts} broke"))
                .hint("check that mongod is running there and that the network lets this machine through")
        }
        DriverKind::InvalidTlsConfig { message, .. } => told(ErrorKind::Invalid, message).hint(
            "check tlsCAFile and tlsCertificateKeyFile of the connection string; the files are read by the daemon",
        ),
        DriverKind::IncompatibleServer { message, .. } => match too_old(message) {
            Some(wire) => unsupported_version(service, &hosts, wire),
            None => told(ErrorKind::Unsupported, message),
        },
        DriverKind::SessionsNotSupported => told(ErrorKind::Unsupported, "the server has no sessions"),
        DriverKind::Shutdown => told(ErrorKind::Cancelled, "the connection was closed"),
        DriverKind::Command(e) => by_code(service, &hosts, e.code, &e.message, &told),
        _ => match server_code(error) {
            Some(code) => by_code(service, &hosts, code, &short(error), &told),
            None => told(ErrorKind::Failed, &short(error)),
        },
    }
}

fn by_code(service: &str, hosts: &str, code: i32, text: &str, told: &dyn Fn(ErrorKind, &str) -> Error) -> Error {
    match code {
        code::AUTHENTICATION_FAILED => wrong_password(service, hosts, text),
        code::UNAUTHORIZED => told(ErrorKind::Denied, &first_sentence(text)).hint(format!(
            "the user lacks a right; `mongokeep service check {service}` says which, and how to grant it"
        )),
        code::QUERY_PLAN_KILLED | code::CURSOR_NOT_FOUND | code::CAPPED_POSITION_LOST | code::OPLOG_OUT_OF_RANGE => {
            told(ErrorKind::Interrupted, text)
        }
        code::OUT_OF_DISK_SPACE => {
            told(ErrorKind::StorageFull, text).hint("the disk of the MongoDB server is full; make room there")
        }
        code::NAMESPACE_NOT_FOUND => told(ErrorKind::NotFound, text),
        code::NO_MAJORITY_READS => told(ErrorKind::Unsupported, text).hint(format!(
            "majority read concern is switched off on {hosts}: take replication.enableMajorityReadConcern: false (or \
             --enableMajorityReadConcern=false) away from the configuration of every member, and restart them; without it \
             a backup could hold changes that are rolled back"
        )),
        code if NOT_READABLE.contains(&code) => told(ErrorKind::Transient, text).hint("the member is not readable now"),
        code if SHUTTING_DOWN.contains(&code) => {
            told(ErrorKind::Transient, &format!("the server at {hosts} is shutting down"))
                .hint("wait until it runs again, and try it again")
        }
        code if PASSING.contains(&code) => told(ErrorKind::Transient, text),
        _ => told(ErrorKind::Failed, &format!("{text} (code {code})")),
    }
}

/// The wire version of a server that is older than the driver knows, where `message` says so.
fn too_old(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("reports wire version ")?;
    after.split_once(", but this version").map(|(wire, _)| wire)
}

fn unsupported_version(service: &str, hosts: &str, wire: &str) -> Error {
    let release = match wire {
        "8" => "MongoDB 4.2",
        "7" => "MongoDB 4.0",
        "6" => "MongoDB 3.6",
        _ => "a release before MongoDB 4.4",
    };
    Error::new(
        ErrorKind::Unsupported,
        format!("service {service}: the server at {hosts} is too old: {release} (wire version {})", escape(wire)),
    )
    .hint(
        "this program needs MongoDB 4.4 or newer; upgrade the server, or back it up with the tools of its own release",
    )
}

fn wrong_password(service: &str, hosts: &str, text: &str) -> Error {
    let text = escape(text);
    Error::new(
        ErrorKind::Unauthenticated,
        format!("service {service}: {hosts} refused the user name or password: {text}"),
    )
    .hint(
        "check user name, password and authSource of the connection string (characters such as @ : / are written \
             %40 %3A %2F)",
    )
}

/// "not authorized on admin to execute command { ... }" quotes the whole command; what follows the brace helps nobody.
fn first_sentence(text: &str) -> String {
    text.split(" { ").next().unwrap_or(text).to_owned()
}

/// The driver's text without the labels and raw replies it appends.
fn short(error: &DriverError) -> String {
    let text = error.kind.to_string();
    if text.len() <= 600 {
        return text;
    }
    let end = (0..=600).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// The driver describes its whole view of the deployment; this is the part a person can act on.
fn selection_cause(message: &str) -> String {
    // It does not know a single member, and none of them has failed yet: nothing came back at all.
    let heard = ["Error: ", "Type: Rs", "Type: Standalone", "Type: Mongos"].iter().any(|word| message.contains(word));
    if message.contains("Address: ") && !heard {
        return "no answer".to_owned();
    }
    for (needle, cause) in [
        ("Connection refused", "connection refused"),
        ("failed to lookup address", "the host name is not known here"),
        ("No route to host", "no route to host"),
        ("Network is unreachable", "the network is unreachable"),
        ("UnknownIssuer", "the server's certificate is signed by an unknown authority"),
        ("NotValidForName", "the server's certificate is for another host name"),
        ("Expired", "the server's certificate has expired"),
        ("invalid peer certificate", "the server's certificate is not accepted"),
        ("timed out", "no answer"),
        ("unexpected end of file", "the server closed the connection; it may expect TLS"),
        ("ReplicaSetNoPrimary", "the replica set has no primary, or its name is another"),
    ] {
        if message.contains(needle) {
            return cause.to_owned();
        }
    }
    String::new()
}

fn selection_hint(cause: &str) -> &'static str {
    if cause.contains("certificate") {
        "give the authority's certificate with tlsCAFile=/path/ca.pem in the connection string"
    } else if cause.contains("TLS") {
        "try tls=true in the connection string"
    } else if cause.contains("no primary") {
        "check replicaSet in the connection string, and rs.status() on the server"
    } else if cause.contains("host name") {
        "members are contacted under the names in rs.conf(); where those are not known here, add directConnection=true \
         to read the member that the connection string names"
    } else if cause == "no answer" {
        "nothing at this address answers: check the host, and that no firewall drops what this machine sends"
    } else {
        "check host and port, that mongod is running and listens there (bindIp), and that no firewall is between"
    }
}

/// What is wrong with a connection string, without quoting a secret of it.
pub fn connection_string(service: &str, uri: &Secret, error: &DriverError) -> Error {
    let text = error.kind.to_string();
    if let DriverKind::DnsResolve { .. } = &*error.kind {
        let why = if quotes_a_secret(uri.expose(), &text) { String::new() } else { format!(": {}", escape(&text)) };
        let host = escape(srv_host(uri.expose()));
        return Error::new(
            ErrorKind::Unreachable,
            format!("service {service}: the DNS records of {host} (mongodb+srv) cannot be looked up{why}"),
        )
        .hint(format!(
            "check the host name and this machine's DNS: `dig SRV _mongodb._tcp.{host}` lists the members; where that \
             cannot be had, name them yourself with mongodb://HOST:PORT,HOST:PORT"
        ));
    }
    refused_string(service, uri, &text)
}

/// The same for what the driver refuses for the reason `text`.
pub fn refused_string(service: &str, uri: &Secret, text: &str) -> Error {
    let why = if quotes_a_secret(uri.expose(), text) { String::new() } else { format!(": {}", escape(text)) };
    let hint = match text.contains("option") || text.contains("support") {
        true => "take that option out of the connection string, or write it as the driver takes it",
        false => {
            "mongodb://USER:PASSWORD@HOST:PORT,HOST:PORT/?replicaSet=NAME, with @ : / % in the password as %40 %3A %2F %25"
        }
    };
    Error::new(
        ErrorKind::Invalid,
        format!("uri: the connection string of service {} cannot be used{why}", escape(service)),
    )
    .hint(hint)
}

/// The host of `mongodb+srv://`: what stands behind the last @, before the first / or ?.
fn srv_host(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    hosts_of(rest)
}

/// The hosts of what stands behind the scheme. Where there are credentials, they end at the last @ before the options.
fn hosts_of(rest: &str) -> &str {
    let behind = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    behind.split(['/', '?']).next().unwrap_or_default()
}

/// Whether `text` holds anything that stands between the scheme and the hosts, or a secret option's value.
fn quotes_a_secret(uri: &str, text: &str) -> bool {
    let Some((_, rest)) = uri.split_once("://") else {
        // Not a connection string at all: the whole of it may be a mistyped secret.
        return !uri.is_empty() && text.contains(uri);
    };
    let mut secrets: Vec<&str> = Vec::new();
    if let Some((credentials, _)) = rest.rsplit_once('@') {
        secrets.push(credentials.split_once(':').map_or(credentials, |(_, password)| password));
    }
    // `user:password` without the hosts reads as a host and a port that is not a number.
    let ports = hosts_of(rest).split(',').filter_map(|host| host.split_once(':')).map(|(_, port)| port);
    secrets.extend(ports.filter(|port| !port.bytes().all(|b| b.is_ascii_digit())));
    // A password with an unescaped separator may be cut by the parser anywhere: every piece of it counts.
    let pieces = secrets.iter().flat_map(|s| s.split(['@', ':', '/', '?', '&', '='])).filter(|p| !p.is_empty());
    let options = rest.split_once('?').map_or("", |(_, options)| options);
    let mut values = options.split('&').filter_map(|o| o.split_once('=')).filter(|(key, _)| {
        let key = key.to_ascii_lowercase();
        key.contains("password") || key.contains("token") || key.contains("secret") || key == "authmechanismproperties"
    });
    pieces.into_iter().any(|p| text.contains(p)) || values.any(|(_, v)| !v.is_empty() && text.contains(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_does_not_answer_is_no_set_without_a_primary() {
        let servers = |servers: &str| {
            let cause = selection_cause(&format!(
                "Server selection timeout: No available servers. Topology: {{ Type: ReplicaSetNoPrimary, Set Name: rs, \
                 Servers: [ {servers} ] }}"
            ));
            (cause.clone(), selection_hint(&cause))
        };
        let (cause, hint) = servers("{ Address: 10.9.8.7:27017, Type: Unknown }");
        assert!(cause == "no answer" && hint.contains("firewall") && !hint.contains("rs.status"), "{cause}: {hint}");
        for known in ["{ Address: a:27017, Type: RsSecondary, Average RTT: 1ms }", ""] {
            assert!(servers(known).0.starts_with("the replica set has no primary"), "{known}");
        }
        let refused = "{ Address: a:27017, Type: Unknown, Error: Kind: I/O error: Connection refused (os error 111) }";
        assert_eq!(servers(refused).0, "connection refused");
    }

    #[tokio::test]
    async fn a_wrong_connection_string_never_shows_its_password() {
        for uri in [
            "mongodb://user:hunter2",
            "mongodb://user:hun@ter2hunter2@h/",
            "mongodb://user:hunter2/x@h/?foo",
            "mongodb://user:hunter2?x=hunter2@h",
            "mongodb://user:hunter2@h:notaport/",
            "mongodb://user:%zzhunter2@h/",
            "mongodb://h/?tlsCertificateKeyFilePassword=hunter2&tls=maybe",
            "hunter2",
            "postgres://u:hunter2@h",
        ] {
            let Err(error) = mongodb::options::ClientOptions::parse(uri).await else { continue };
            let ours = connection_string("prod", &Secret::new(uri), &error);
            assert!(!ours.full().contains("hunter2"), "{ours}");
            assert_eq!(ours.kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn dns_failures_are_said_also_beside_a_password() {
        let cause = "no records found for Query { name: _mongodb._tcp.cluster.example.net. }";
        for uri in ["mongodb+srv://cluster.example.net/", "mongodb+srv://user:hunt%2Fer2@cluster.example.net/?w=1"] {
            assert!(!quotes_a_secret(uri, cause), "{uri}");
            assert_eq!(srv_host(uri), "cluster.example.net");
        }
        for uri in ["mongodb+srv://user:example@cluster.example.net/", "mongodb+srv://user:records"] {
            assert!(quotes_a_secret(uri, cause), "{uri}");
        }
    }

    #[test]
    fn servers_before_4_4_are_too_old_and_not_unreachable() {
        let message = "Server at h:1 reports wire version 8, but this version of the MongoDB Rust driver requires at \
                       least 9 (MongoDB 4.4).";
        let error = unsupported_version("old", "h:1", too_old(message).unwrap());
        assert!(error.full().contains("too old: MongoDB 4.2") && error.kind() == ErrorKind::Unsupported, "{error}");
        assert_eq!(too_old("Server at h:1 requires wire version 30, but this version"), None);
    }
}
