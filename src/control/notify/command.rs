//! A notice for a program: it reads the JSON on its standard input and ends with 0.
//!
//! No shell comes between; what a notice holds is never part of a command line, where others could read it and a quote
//! could end it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::domain::command_line::OF_THE_SERVICE_MANAGER;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result, io};

/// A program that takes longer is ended, with what it started.
const LIMIT: Duration = Duration::from_secs(30);
/// So much of what it says on standard error is kept.
const SAID: usize = 2_000;

pub async fn run_command(command: &[String], body: Vec<u8>) -> Result<String> {
    run_within(command, body, LIMIT).await
}

async fn run_within(command: &[String], body: Vec<u8>, limit: Duration) -> Result<String> {
    let Some((program, args)) = command.split_first() else {
        return Err(Error::new(ErrorKind::Invalid, "notify.command is empty"));
    };
    let shown = escape(program);
    let mut command = Command::new(program);
    for name in OF_THE_SERVICE_MANAGER {
        command.env_remove(name);
    }
    let mut child = command
        .args(args)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| io(format!("starting {shown} (notify.command)"), e))?;
    let group = Group(child.id());
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let said = tokio::spawn(async move {
        match stderr {
            Some(stderr) => first_of(stderr).await,
            None => String::new(),
        }
    });
    let work = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read what it is told is its owner's choice.
            let _ = stdin.write_all(&body).await;
        }
        child.wait().await
    };
    let status = match tokio::time::timeout(limit, work).await {
        Ok(status) => status.map_err(|e| io(format!("waiting for {shown} (notify.command)"), e))?,
        Err(_) => {
            drop(group);
            return Err(Error::new(
                ErrorKind::Transient,
                format!("{shown} (notify.command) had not ended after {} s", limit.as_secs()),
            ));
        }
    };
    // Something it left in the background may hold its standard error open.
    let said = tokio::time::timeout(Duration::from_secs(1), said).await;
    let said = said.ok().and_then(std::result::Result::ok).unwrap_or_default();
    if status.success() {
        std::mem::forget(group);
        return Ok(format!("{shown} ended with 0"));
    }
    let how = status.code().map_or_else(|| "was killed".to_owned(), |code| format!("ended with {code}"));
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Err(Error::new(ErrorKind::Failed, format!("{shown} (notify.command) {how}{said}")))
}

/// The beginning of what a program says, escaped; the rest is read and dropped, so that it is not held up.
async fn first_of(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 {
            break;
        }
        let room = SAID.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
    escape(String::from_utf8_lossy(&kept).trim())
}

/// Ends the program and what it started, unless it ended well by itself.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn what_it_says_and_how_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("got");
        let good = words(&format!("cat > {}", file.display()));
        run_command(&good, b"{\"id\":1}\n".to_vec()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"id\":1}\n");
        // One that reads nothing, and more than a pipe holds.
        run_command(&words("true"), vec![b'x'; 1 << 20]).await.unwrap();
        let error = run_command(&words("printf 'no\\033[2Jway' >&2; exit 3"), vec![]).await.unwrap_err();
        assert_eq!(error.full(), "/bin/sh (notify.command) ended with 3: no\\u{1b}[2Jway");
        // More than is kept, and than a pipe holds.
        let error =
            run_command(&words("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1"), vec![]).await.unwrap_err();
        assert!(error.full().ends_with('x') && error.full().len() < SAID + 100, "{}", error.full().len());
        assert!(
            run_command(&["/nonexistent/x".to_owned()], vec![]).await.unwrap_err().full().contains("/nonexistent/x")
        );
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let error = run_within(&words(&script), vec![], Duration::from_secs(5)).await.unwrap_err();
        assert!(error.full().contains("had not ended") && error.is_retryable(), "{error}");
        let pid = std::fs::read_to_string(&file).unwrap();
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            // A zombie that nobody reaps in a container is as dead as one can be there.
            stat.is_ok_and(|s| !s.contains(") Z "))
        };
        let began = std::time::Instant::now();
        while alive() {
            assert!(began.elapsed() < Duration::from_secs(60), "the sleeper lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
