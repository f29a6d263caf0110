use super::*;

/// Passphrases of tests are tried by nobody.
const QUICK: u8 = 4;

fn identity() -> (x25519::Identity, Encryption) {
    let identity = x25519::Identity::generate();
    let recipients = vec![identity.to_public().to_string().parse().unwrap()];
    (identity, Encryption { recipients, passphrase_identity: None })
}

fn file(text: &str) -> (tempfile::TempDir, IdentityFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.txt");
    std::fs::write(&path, text).unwrap();
    (dir, IdentityFile::at(Some(path)))
}

fn locked(encryption: &Encryption) -> Vec<Locked> {
    vec![Locked { what: "backup b".into(), encryption: encryption.clone() }]
}

fn text_of(identity: &x25519::Identity) -> String {
    format!("# created: today\n# public key: {}\n{}\n", identity.to_public(), identity.to_string().expose_secret())
}

#[test]
fn an_identity_opens_what_is_encrypted_to_it_and_nothing_else() {
    let ((own, for_own), (other, for_other)) = (identity(), identity());
    let (_dir, of_own) = file(&text_of(&own));
    let keys = of_own.unlock_blocking(&locked(&for_own)).unwrap();
    prove(&keys, &for_own).unwrap();
    assert_eq!(prove(&keys, &for_other).unwrap_err().kind(), ErrorKind::Unauthenticated);
    let refused = of_own.unlock_blocking(&locked(&for_other)).unwrap_err();
    let said = refused.full();
    assert_eq!((refused.kind(), refused.kind().exit_code()), (ErrorKind::Unauthenticated, 1));
    assert!(said.contains("backup b") && said.contains(for_other.recipients[0].as_str()), "{said}");
    assert!(said.contains(for_own.recipients[0].as_str()) && !said.contains("SECRET"), "{said}");
    // Both in one file: each opens what is its own.
    let (_dir, both) = file(&(text_of(&own) + &text_of(&other)));
    let all = [locked(&for_own), locked(&for_other)].concat();
    let keys = both.unlock_blocking(&all).unwrap();
    prove(&keys, &for_own).unwrap();
    prove(&keys, &for_other).unwrap();
}

#[test]
fn what_is_no_identity_says_so_and_nothing_of_itself() {
    let (_, encryption) = identity();
    let cases = [
        ("hunter2\nhunter3\n", "holds no identity"),
        ("", "holds no identity"),
        ("AGE-SECRET-KEY-1HUNTER2\n", "no X25519 identity"),
        ("AGE-PLUGIN-YUBIKEY-1HUNTER2\n", "no X25519 identity"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\nhunter2\n", "is encrypted itself"),
        ("age-encryption.org/v1\nhunter2", "is encrypted itself"),
    ];
    for (text, why) in cases {
        let (_dir, file) = file(text);
        let refused = file.unlock_blocking(&locked(&encryption)).unwrap_err();
        let said = format!("{} {}", refused.full(), refused.hint_text().unwrap_or_default());
        assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{said}");
        assert!(said.contains(why) && said.contains(encryption.recipients[0].as_str()), "{said}");
        assert!(!said.to_lowercase().contains("hunter"), "{said}");
    }
    let missing = IdentityFile::at(Some("/nowhere/key.txt".into())).unlock_blocking(&locked(&encryption)).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Unauthenticated);
    let folder = tempfile::tempdir().unwrap();
    let refused = IdentityFile::at(Some(folder.path().into())).unlock_blocking(&locked(&encryption)).unwrap_err();
    assert!(refused.full().contains("is no file"), "{refused}");
    let none = IdentityFile::default().unlock_blocking(&locked(&encryption)).unwrap_err();
    assert!(none.hint_text().unwrap().contains("--identity-file"));
}

#[test]
fn a_passphrase_opens_the_identity_that_it_sealed() {
    let passphrase = Secret::new("correct horse");
    let sealed = seal_with(&passphrase, QUICK).unwrap();
    assert!(sealed.file.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{}", sealed.file);
    let encryption =
        Encryption { recipients: vec![sealed.recipient.clone()], passphrase_identity: Some(sealed.file.clone()) };
    prove(&of_passphrase(&sealed, &passphrase).unwrap(), &encryption).unwrap();
    let (_dir, right) = file("correct horse\n");
    prove(&right.unlock_blocking(&locked(&encryption)).unwrap(), &encryption).unwrap();
    let (_dir, wrong) = file("battery staple\n");
    let refused = wrong.unlock_blocking(&locked(&encryption)).unwrap_err();
    let said = refused.full();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
    assert!(said.contains(sealed.recipient.as_str()) && !said.contains("battery"), "{said}");
    // Not what the recipients say: somebody put another one there.
    let (_, other) = identity();
    let swapped = Encryption { passphrase_identity: Some(sealed.file), ..other };
    assert_eq!(right.unlock_blocking(&locked(&swapped)).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// One that asks for all the memory of the machine is refused, whoever put it there.
#[test]
fn a_sealed_identity_that_takes_too_much_work_is_refused() {
    let passphrase = Secret::new("p");
    let sealed = seal_with(&passphrase, QUICK).unwrap();
    let header = |factor: u8| format!(" {factor}\n");
    let binary = {
        let mut bytes = Vec::new();
        armor::ArmoredReader::new(sealed.file.as_bytes()).read_to_end(&mut bytes).unwrap();
        bytes
    };
    let at = memchr::memmem::find(&binary, header(QUICK).as_bytes()).unwrap();
    let mut heavy = binary[..at].to_vec();
    heavy.extend(header(WORK_FACTOR + 5).as_bytes());
    heavy.extend(&binary[at + header(QUICK).len()..]);
    let mut armored = armor::ArmoredWriter::wrap_output(Vec::new(), armor::Format::AsciiArmor).unwrap();
    armored.write_all(&heavy).unwrap();
    let file = String::from_utf8(armored.finish().unwrap()).unwrap();
    let began = std::time::Instant::now();
    assert!(unseal(&file, &passphrase).is_err());
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn a_file_that_others_may_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, file) = file("x");
    let path = dir.path().join("key.txt");
    for (mode, warned) in [(0o600, false), (0o640, true), (0o604, true), (0o400, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(file.warning().is_some(), warned, "{mode:o}");
    }
}
