use super::*;
use crate::engine::pbm::failure::Reason;
use crate::engine::pbm::tests::{StandIn, fixture, refusal};

const URI: &str = "mongodb://pbm:hunter22@127.0.0.1:29018/?replicaSet=cfg";

fn program(stand_in: &StandIn) -> Program {
    Program::new(&stand_in.path(), "prod", &Secret::new(URI))
}

async fn ask(stand_in: &StandIn, arguments: &[&str]) -> Result<Reply> {
    program(stand_in).ask(arguments, Duration::from_secs(20), &CancellationToken::new()).await
}

#[tokio::test]
async fn an_answer_comes_back_and_the_connection_string_is_no_argument() {
    let stand_in = StandIn::new();
    stand_in.recorded("status-running", "status-running");
    let Reply::Answer(answer) = ask(&stand_in, &["status", "-s", "running"]).await.unwrap() else { panic!() };
    assert_eq!(answer.value["running"]["opID"], "6b0bee333165509810c1475b");
    assert_eq!(stand_in.calls(), "status -s running -o json\n");
    stand_in.write_program("#!/bin/sh\nenv >\"$(dirname \"$0\")/environment\"\ncat \"$0\" >&2\necho '{\"a\":1}'\n");
    // Its standard error is no failure while the answer is there.
    assert!(matches!(ask(&stand_in, &["config"]).await.unwrap(), Reply::Answer(_)));
    let environment = std::fs::read_to_string(stand_in.folder.path().join("environment")).unwrap();
    assert!(environment.contains(&format!("PBM_MONGODB_URI={URI}\n")));
    assert!(!environment.contains("NOTIFY_SOCKET"));
}

/// Each with the exit code that was recorded with it.
#[tokio::test]
async fn exit_codes_are_not_trusted() {
    let stand_in = StandIn::new();
    stand_in
        .answers("status-a", &fixture("unreachable"), "", 1)
        .answers("restore", &fixture("restore-no-yes"), "", 0)
        .answers("list", "", &refusal("noconf-agents-list"), 1)
        .answers("backup", "", "", 0)
        .answers("logs", "[]", "", 1)
        .answers("config", "{}", &refusal("config-file-badtype"), 1);
    let reason = async |arguments: &[&str]| match ask(&stand_in, arguments).await.unwrap() {
        Reply::Refused(refusal) => Some((refusal.reason, refusal.text)),
        Reply::Answer(_) => None,
    };
    assert_eq!(reason(&["status", "-s", "a"]).await.unwrap().0, Reason::Unreachable);
    assert_eq!(reason(&["restore"]).await.unwrap(), (Reason::Other, "pbm did nothing: canceled".into()));
    assert_eq!(reason(&["list"]).await.unwrap().0, Reason::Unconfigured);
    assert_eq!(reason(&["config"]).await.unwrap().0, Reason::NotOffered);
    assert_eq!(reason(&["logs"]).await, None);
    let error = ask(&stand_in, &["backup"]).await.unwrap_err();
    assert_eq!(error.full(), "pbm backup of service prod: it gave no JSON");
}

#[tokio::test]
async fn secrets_in_what_it_says_are_hidden() {
    let stand_in = StandIn::new();
    stand_in.answers("status-x", "", &format!("Error: parse \"{URI}\": key s3-secret\u{1b}[2J and hunter22"), 1);
    let program = program(&stand_in).hiding(Secret::new("s3-secret"));
    let error = program.call(&["status", "-s", "x"], ASK_LIMIT, &CancellationToken::new()).await.unwrap_err();
    let text = format!("{error:?} {program:?}");
    assert!(!text.contains("hunter22") && !text.contains("s3-secret") && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("mongodb://pbm:***@127.0.0.1:29018/?replicaSet=cfg"), "{text}");
}

#[tokio::test]
async fn it_is_bounded_in_time_and_in_size_and_can_be_cancelled() {
    let stand_in = StandIn::new();
    stand_in.write_program("#!/bin/sh\nexec sleep 60\n");
    let program = program(&stand_in);
    let cancel = CancellationToken::new();
    let error = program.ask(&["status"], Duration::from_millis(200), &cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let later = cancel.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(200)).await;
        later.cancel();
    });
    let began = std::time::Instant::now();
    let error = program.ask(&["status"], ASK_LIMIT, &cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(30));
    stand_in.write_program("#!/bin/sh\nhead -c 100000 /dev/zero\n");
    let small = Program { output_limit: 4096, ..program };
    let error = small.ask(&["status"], ASK_LIMIT, &CancellationToken::new()).await.unwrap_err();
    assert!(error.full().contains("more than 0 MiB"), "{error}");
    stand_in.write_program("#!/bin/sh\nprintf '{\"cluster\": ['\n");
    let error = small.ask(&["status"], ASK_LIMIT, &CancellationToken::new()).await.unwrap_err();
    assert!(error.is_retryable() && error.full().contains("cut off"), "{error}");
}

#[tokio::test]
async fn versions_and_flags_are_asked_of_the_program() {
    let stand_in = StandIn::new();
    stand_in.answers("version", &fixture("version-json"), "", 0).answers("version", "Version: 1.8.1\n", "", 0);
    stand_in.answers("backup", "Flags:\n      --ns string\n  -t, --type string   x\n", "", 0);
    let (program, cancel) = (program(&stand_in), CancellationToken::new());
    assert_eq!(program.version(&cancel).await.unwrap().to_string(), "2.15.0");
    let error = program.version(&cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.full().contains("1.8.1") && error.full().contains("/pbm: "), "{error}");
    assert!(program.offers("backup", "--type", &cancel).await.unwrap());
    assert!(!program.offers("backup", "--num-parallel-collections", &cancel).await.unwrap());
}

#[tokio::test]
async fn a_missing_program_says_how_it_is_set() {
    let stand_in = StandIn::new();
    assert_eq!(find(Some(stand_in.folder.path())).await.unwrap(), stand_in.path());
    assert_eq!(find(Some(&stand_in.path())).await.unwrap(), stand_in.path());
    let nothing = stand_in.folder.path().join("nothing");
    let program = Program::new(&nothing, "prod", &Secret::new(URI));
    let errors = [
        find(Some(&nothing)).await.map(drop).unwrap_err(),
        program.version(&CancellationToken::new()).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint_text().unwrap().contains("mongokeep settings set pbm.path"), "{error:?}");
    }
}
