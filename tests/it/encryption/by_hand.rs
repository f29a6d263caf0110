//! Without this program: `age -d`, and then `zstd -d`, as docs/format.md says.

use std::fs;
use std::process::{Command, Stdio};

use mongokeep::artifact::slice::FIRST_READ;

use super::{fill, home_of, identity, stored};
use crate::support;
use crate::support::command::good;
use crate::support::tools::Age;

/// What `bash` prints for `script`, in which `age` is the stock program.
fn bash(age: &Age, script: &str) -> Vec<u8> {
    let folder = age.age().get_program().to_owned();
    let folder = std::path::Path::new(&folder).parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    let ran = command.args(["-ec", script]).env("PATH", path).stdin(Stdio::null()).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// Whether there is a `zstd`; says so where there is none. With `CI=true` there must be one.
fn has_zstd() -> bool {
    let found = Command::new("zstd").arg("--version").output().is_ok();
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "zstd is missing");
    if !found {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: this needs zstd");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_tools_open_every_object_of_a_backup() {
    let Some(age) = Age::find() else { return };
    if !has_zstd() {
        return;
    }
    let set = support::replica_set().await;
    let keys = tempfile::tempdir().unwrap();
    // The key of the stock program, and not one of ours.
    let file = keys.path().join("key.txt");
    assert!(age.keygen().arg("-o").arg(&file).stderr(Stdio::null()).status().unwrap().success());
    let recipient = String::from_utf8(age.keygen().arg("-y").arg(&file).output().unwrap().stdout).unwrap();
    let own = super::Identity { file, recipient: recipient.trim().to_owned() };
    fill(&set).await;
    let home = home_of(&set, &own);
    good(&home, "backup create --service src --storage safe --name b --wait");
    let mut opened = 0;
    for path in stored(&home).into_iter().filter(|path| path.ends_with(".age")) {
        let object = home.dir().join("safe").join(&path);
        let unpack = if path.ends_with(".zst.age") { "| zstd -d" } else { "" };
        let plain = bash(&age, &format!("age -d -i {} {} {unpack}", own.file.display(), object.display()));
        if path.ends_with(".metadata.json.age") {
            assert!(serde_json::from_slice::<serde_json::Value>(&plain).unwrap()["options"].is_object(), "{path}");
        } else {
            let length = u32::from_le_bytes(plain[..4].try_into().unwrap()) as usize;
            mongodb::bson::Document::from_reader(&plain[..length]).unwrap();
        }
        opened += 1;
    }
    assert!(opened >= 4, "{:?}", stored(&home));
}

/// A storage with a passphrase: the manifest holds the sealed identity, which the passphrase opens.
#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_opens_the_identity_and_that_the_objects() {
    let Some(age) = Age::find() else { return };
    let set = support::replica_set().await;
    fill(&set).await;
    let home = support::command::Home::new();
    assert_eq!(home.run_with(&["service", "add", "src", "--uri-file", "-"], &set.uri()).code, 0);
    let passphrase = home.dir().join("passphrase");
    fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    super::add_storage(&home, &format!("--encrypt-passphrase-file {}", passphrase.display()));
    good(&home, "backup create --service src --storage safe --name b --compression none --wait");
    good(&home, &format!("backup verify b --identity-file {}", passphrase.display()));
    let manifest = stored(&home).into_iter().find(|path| path.ends_with("manifest.json")).unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(home.dir().join("safe").join(manifest)).unwrap()).unwrap();
    let sealed = home.dir().join("identity.age");
    fs::write(&sealed, manifest["encryption"]["passphrase_identity"].as_str().unwrap()).unwrap();
    // The stock program asks on a terminal for a passphrase.
    let part = stored(&home).into_iter().find(|path| path.contains("orders/0")).unwrap();
    let part = home.dir().join("safe").join(part);
    let out = home.dir().join("out.bson");
    let mut command = portable_pty::CommandBuilder::new(age.age().get_program());
    command.args(["-d", "-i", sealed.to_str().unwrap(), "-o", out.to_str().unwrap(), part.to_str().unwrap()]);
    let pty = portable_pty::native_pty_system().openpty(portable_pty::PtySize::default()).unwrap();
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let mut reader = pty.master.try_clone_reader().unwrap();
    let mut writer = pty.master.take_writer().unwrap();
    let (mut shown, mut buffer) = (Vec::new(), [0; 256]);
    while !shown.windows(10).any(|window| window == b"passphrase") {
        let n = std::io::Read::read(&mut reader, &mut buffer).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(&buffer[..n]);
    }
    std::io::Write::write_all(&mut writer, b"correct horse battery staple\n").unwrap();
    let drain = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    assert!(child.wait().unwrap().success());
    drop(writer);
    drop(pty.master);
    let _ = drain.join();
    assert!(fs::read(&out).unwrap().windows(8).any(|window| window == b"customer"));
}

/// The description of a slice in the header of its age file, as docs/format.md prints it.
#[test]
fn stock_tools_open_a_slice_and_show_its_description() {
    use mongokeep::artifact::slice::Header;
    let Some(age) = Age::find() else { return };
    if !has_zstd() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let own = identity(dir.path(), "key.txt");
    let data = zstd::encode_all(&b"entries"[..], 1).unwrap();
    let described = serde_json::json!({
        "format_version": 1, "tool_version": "1", "service": "s", "replica_set": "rs0",
        "replica_set_id": "0123456789abcdef01234567", "member": "h:1", "server_version": "6.0.5", "home_id": "home",
        "written_at": "2026-01-01T00:00:00Z", "after": {"ts": {"t": 1, "i": 1}, "term": 1},
        "first_ts": {"t": 2, "i": 1}, "last": {"ts": {"t": 3, "i": 1}, "term": 1}, "entries": 1, "operations": 1,
        "uncompressed": 7, "data_size": data.len(), "blake3": "", "encryption": {"recipients": [own.recipient]},
        "gap": null, "marks": [], "counts": (0..2_000).map(|n| [n, n * 7 % 1_009]).collect::<Vec<_>>(),
    });
    let header: Header = serde_json::from_value(described).unwrap();
    let object = header.object(data.into()).unwrap();
    assert!(object.frame < FIRST_READ, "read at once");
    let slice = dir.path().join("a.bson.zst.age");
    fs::write(&slice, object.pieces.concat()).unwrap();
    let plain = bash(&age, &format!("age -d -i {} {} | zstd -d", own.file.display(), slice.display()));
    assert_eq!(plain, b"entries");
    let script = format!(
        "body=$(sed -n '/^-> mongokeep-slice/,/^-[->-]/p' {} | grep -av '^-' | tr -d '\\n')\n\
         printf '%s%.*s' \"$body\" $(((4 - ${{#body}} % 4) % 4)) === | base64 -d | zstd -d",
        slice.display()
    );
    let shown = bash(&age, &script);
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["encryption"]["recipients"][0], own.recipient);
}
