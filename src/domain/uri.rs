//! The form of a connection string, checked without asking anybody.
//!
//! The driver has the last word when it connects; this finds typing errors while they can still be corrected in the
//! form. Its messages must never repeat any part of the text, which may be a password in the wrong place.

/// Checks `mongodb://[user:password@]host[:port][,...][/database][?key=value&...]`.
pub fn check(uri: &str) -> Result<(), String> {
    let (srv, rest) = match (uri.strip_prefix("mongodb://"), uri.strip_prefix("mongodb+srv://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("begins with mongodb:// or mongodb+srv://".into()),
    };
    if uri.chars().any(|c| c.is_control() || c == ' ') {
        return Err("contains a space or control character; percent-encode it".into());
    }
    let (before_options, options) = match rest.split_once('?') {
        Some((before, options)) => (before, options),
        None => (rest, ""),
    };
    if options.contains('@') {
        return Err("has an unescaped ? in the user name or password; write it as %3F".into());
    }
    let (credentials, hosts) = match before_options.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, before_options),
    };
    if let Some(credentials) = credentials {
        check_credentials(credentials)?;
    }
    let hosts = hosts.split_once('/').map_or(hosts, |(hosts, _)| hosts);
    if hosts.is_empty() {
        return Err("names no host".into());
    }
    if srv && hosts.contains([',', ':']) {
        return Err("with mongodb+srv:// there is one host and no port".into());
    }
    hosts.split(',').try_for_each(check_host)?;
    for option in options.split('&').filter(|o| !o.is_empty()) {
        if option.split_once('=').is_none_or(|(key, _)| key.is_empty()) {
            return Err("has an option that is not KEY=VALUE".into());
        }
    }
    Ok(())
}

/// `uri` as it can be shown, sign for sign: `•` stands for each sign of what is a secret or may become one while it is typed.
/// `is_whole`: nobody types in it now, so that what follows a host is its port.
pub fn masked(uri: &str, is_whole: bool) -> String {
    let Some((scheme, rest)) = uri.split_once("://").filter(|(scheme, _)| ["mongodb", "mongodb+srv"].contains(scheme))
    else {
        // What begins like another thing may be a password in the wrong place.
        let begins = ["mongodb://", "mongodb+srv://"].iter().any(|whole| whole.starts_with(uri));
        return if begins { uri.to_owned() } else { dots(uri) };
    };
    let (credentials, hosts) = match rest.rfind('@') {
        Some(at) => rest.split_at(at),
        None => ("", rest),
    };
    let credentials = match credentials.split_once(':') {
        Some((user, password)) => format!("{user}:{}", dots(password)),
        None => credentials.to_owned(),
    };
    let (hosts, options) = hosts.split_once('?').map_or((hosts, None), |(hosts, options)| (hosts, Some(options)));
    let hosts = if rest.contains('@') { hosts.to_owned() } else { masked_hosts(hosts, is_whole || options.is_some()) };
    let options = options.map_or_else(String::new, |options| {
        let shown: Vec<String> = options.split('&').map(masked_option).collect();
        format!("?{}", shown.join("&"))
    });
    format!("{scheme}://{credentials}{hosts}{options}")
}

/// Hosts that no credentials stand in front of yet: what follows a colon is a port, or the password of a user.
fn masked_hosts(hosts: &str, is_whole: bool) -> String {
    let (list, path) = hosts.find('/').map_or((hosts, ""), |at| hosts.split_at(at));
    let last = list.split(',').count() - 1;
    let is_ended = is_whole || !path.is_empty();
    let shown: Vec<String> = list
        .split(',')
        .enumerate()
        .map(|(i, host)| match host.rsplit_once(':').filter(|_| !host.ends_with(']')) {
            Some((name, port)) => {
                let is_port = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
                let is_known = is_port && (is_ended || i < last);
                format!("{name}:{}", if is_known { port.to_owned() } else { dots(port) })
            }
            None => host.to_owned(),
        })
        .collect();
    // After a password that is not one, nothing is known of what follows.
    let is_odd = shown.iter().any(|host| host.contains('•'));
    format!("{}{}", shown.join(","), if is_odd { dots(path) } else { path.to_owned() })
}

fn masked_option(option: &str) -> String {
    match option.split_once('=') {
        Some((key, value)) if ["password", "properties", "token"].iter().any(|s| key.to_lowercase().contains(s)) => {
            format!("{key}={}", dots(value))
        }
        _ => option.to_owned(),
    }
}

/// What stands for a secret, however long it is.
pub const DOTS: &str = "••••••••";

/// What [`masked`] gave with as many dots for each secret as for any other, and where the column `cursor` of it lies then: the
/// length of a password is nobody's business.
pub fn shorten_secrets(masked: &str, cursor: usize) -> (String, usize) {
    let mut shown = String::new();
    let (mut at, mut cursor_at) = (0, 0);
    let chars: Vec<char> = masked.chars().collect();
    for part in chars.chunk_by(|a, b| (*a == '•') == (*b == '•')) {
        let is_secret = part.first() == Some(&'•');
        let columns = part.len();
        let width: usize = shown.chars().count();
        if (at..=at + columns).contains(&cursor) {
            cursor_at = match is_secret {
                // Within a secret it stands at its end, which does not tell how much is on its left.
                true if cursor > at => width + DOTS.chars().count(),
                _ => width + (cursor - at),
            };
        }
        match is_secret {
            true => shown.push_str(DOTS),
            false => shown.extend(part),
        }
        at += columns;
    }
    (shown, cursor_at)
}

fn dots(text: &str) -> String {
    text.chars().map(|_| '•').collect()
}

/// `uri` with the hosts and the name of the replica set `set` (`name/host:port[,host:port]`, as servers write it) in the place
/// of its own; credentials and other options stay. `None` when that gives no connection string.
pub fn leading_to(uri: &str, set: &str) -> Option<String> {
    let (name, hosts) = set.split_once('/')?;
    let (is_srv, rest) = match (uri.strip_prefix("mongodb://"), uri.strip_prefix("mongodb+srv://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return None,
    };
    let (before_options, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, path) = match before_options.rsplit_once('@') {
        Some((credentials, path)) => (format!("{credentials}@"), path),
        None => (String::new(), before_options),
    };
    let database = path.split_once('/').map_or("", |(_, database)| database);
    // What says where to connect to is of the other hosts.
    let of_hosts = ["replicaset", "directconnection", "loadbalanced", "srvservicename", "srvmaxhosts"];
    let key = |option: &str| option.split_once('=').map_or(option, |(key, _)| key).to_ascii_lowercase();
    let mut kept: Vec<String> = options
        .split('&')
        .filter(|option| !option.is_empty() && !of_hosts.contains(&key(option).as_str()))
        .map(str::to_owned)
        .collect();
    // Such names mean TLS and the users of admin, unless something else is said.
    for (default, keys) in [("tls=true", &["tls", "ssl"][..]), ("authSource=admin", &["authsource"])] {
        if is_srv && !kept.iter().any(|option| keys.contains(&key(option).as_str())) {
            kept.push(default.to_owned());
        }
    }
    kept.push(format!("replicaSet={name}"));
    let made = format!("mongodb://{credentials}{hosts}/{database}?{}", kept.join("&"));
    (check(&made).is_ok() && !name.is_empty() && !name.contains(['&', '=', '?', '#'])).then_some(made)
}

/// Where `set` is, as a connection string without credentials or options.
pub fn of_set(set: &str) -> Option<String> {
    leading_to("mongodb://host/", set)
}

fn check_credentials(credentials: &str) -> Result<(), String> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    if user.is_empty() {
        return Err("has an empty user name".into());
    }
    for part in [user, password] {
        if part.contains(['/', ':', '@', '#', '[', ']']) {
            return Err("has one of / : @ # [ ] in the user name or password; percent-encode it".into());
        }
        let mut rest = part;
        while let Some((_, after)) = rest.split_once('%') {
            if after.len() < 2 || !after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit) {
                return Err("has a % in the user name or password that is not followed by two hex digits".into());
            }
            rest = &after[2..];
        }
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if let Some(rest) = host.strip_prefix('[') {
        // An IPv6 address.
        let (_, after) = rest.split_once(']').ok_or("has a [ without its ]")?;
        after.strip_prefix(':')
    } else {
        match host.split_once(':') {
            Some(("", _)) => return Err("names no host".into()),
            Some((_, port)) => Some(port),
            None if host.is_empty() => return Err("names an empty host".into()),
            None => None,
        }
    };
    match port {
        Some(port) if port.parse::<u16>().is_ok_and(|p| p > 0) => Ok(()),
        Some(_) => Err("has a port that is not a number from 1 to 65535".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, leading_to, masked, of_set, shorten_secrets};

    #[test]
    fn the_length_of_a_password_does_not_show() {
        let shown = |uri: &str, at| shorten_secrets(&masked(uri, false), at);
        assert_eq!(shown("mongodb://u:a@h", 15), ("mongodb://u:••••••••@h".into(), 22));
        assert_eq!(shown("mongodb://u:a-longer-password@h", 31), ("mongodb://u:••••••••@h".into(), 22));
        // In front of it, at its begin, within it, behind it.
        for (at, is) in [(3, 3), (12, 12), (13, 20), (17, 20), (18, 20), (19, 21)] {
            assert_eq!(shown("mongodb://u:secret@h", at).1, is, "{at}");
        }
        assert_eq!(shown("", 0), (String::new(), 0));
    }

    #[test]
    fn all_but_secrets_is_shown() {
        for (uri, shown) in [
            ("mongodb://u:secret@h:1,i:2/db?replicaSet=x", "mongodb://u:••••••@h:1,i:2/db?replicaSet=x"),
            ("mongodb+srv://u:p@q@h/", "mongodb+srv://u:•••@h/"),
            (
                "mongodb://h:27017/?tlsCertificateKeyFilePassword=abc&w=1",
                "mongodb://h:27017/?tlsCertificateKeyFilePassword=•••&w=1",
            ),
            ("mongodb://h:27017,i:27018/", "mongodb://h:27017,i:27018/"),
            ("mongodb://u:12345", "mongodb://u:•••••"),
            ("mongodb://u:pass/word", "mongodb://u:•••••••••"),
            ("mongodb://[::1]:27017/", "mongodb://[::1]:27017/"),
            ("mongo", "mongo"),
            ("hunter2", "•••••••"),
        ] {
            assert_eq!(masked(uri, false), shown, "{uri}");
            assert_eq!(masked(uri, false).chars().count(), uri.chars().count(), "{uri}");
        }
        assert_eq!(masked("mongodb://h:27017", true), "mongodb://h:27017");
        assert_eq!(masked("mongodb://u:secret", true), "mongodb://u:••••••");
    }

    #[test]
    fn a_connection_string_is_led_elsewhere_with_its_credentials() {
        let set = "cfg/c1:27019,c2:27019";
        for (uri, led) in [
            ("mongodb://h", "mongodb://c1:27019,c2:27019/?replicaSet=cfg"),
            (
                "mongodb://u:p%40@h:1,i/db?tls=true&replicaSet=x",
                "mongodb://u:p%40@c1:27019,c2:27019/db?tls=true&replicaSet=cfg",
            ),
            ("mongodb://h/?directConnection=true", "mongodb://c1:27019,c2:27019/?replicaSet=cfg"),
            (
                "mongodb+srv://u:p@c.example.net/?tls=false",
                "mongodb://u:p@c1:27019,c2:27019/?tls=false&authSource=admin&replicaSet=cfg",
            ),
        ] {
            assert_eq!(leading_to(uri, set).as_deref(), Some(led), "{uri}");
        }
        assert_eq!(of_set("cfg/c1:1").as_deref(), Some("mongodb://c1:1/?replicaSet=cfg"));
        for odd in ["cfg", "cfg/", "/c1:1", "cfg/c1:1 x", "cfg/c1:1,", "a&b=c/c1:1", "cfg/u:p@c1:1:2"] {
            assert_eq!(of_set(odd), None, "{odd}");
        }
    }

    #[test]
    fn good_and_bad_connection_strings() {
        let good = [
            "mongodb://localhost",
            "mongodb://u:p%40x@a:1,b:2/db?replicaSet=rs&tls=true",
            "mongodb+srv://u@cluster.example.net/",
            "mongodb://[::1]:27017",
        ];
        for uri in good {
            assert_eq!(check(uri), Ok(()), "{uri}");
        }
        let bad = [
            "",
            "localhost:27017",
            "http://a",
            "mongodb://",
            "mongodb:///db",
            "mongodb://a:b",
            "mongodb://a:0",
            "mongodb://a:70000",
            "mongodb://u:hunter2@:27017",
            "mongodb://u:hunt/er2@a",
            "mongodb://u:hunt@er2@a",
            "mongodb://u:hunter2%zz@a",
            "mongodb://u:p?hunter2@a",
            "mongodb://:hunter2@a",
            "mongodb+srv://a:1",
            "mongodb+srv://a,b",
            "mongodb://a?x",
            "mongodb://a b",
            "mongodb://a,,b",
        ];
        for uri in bad {
            let why = check(uri).unwrap_err();
            assert!(!why.contains("hunt"), "{why}");
        }
    }
}
