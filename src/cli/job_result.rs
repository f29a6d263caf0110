//! How a job ended, for a command that waited for it.

use crate::domain::job::{Job, JobState};
use crate::error::{Error, ErrorKind};

/// Attempts count from 1, also before the first.
pub fn attempts_from_one(mut job: Job) -> Job {
    job.attempt = job.attempt.max(1);
    job
}

/// The error of a job that did not succeed, in the words of the command line.
pub fn failure(job: &Job) -> Option<Error> {
    let what = format!("{} (job {}) {}", job.kind.word(), job.id, job.state.word());
    let text = match (job.state, &job.error) {
        (JobState::Succeeded, _) => return None,
        (_, Some(error)) => format!("{what}: {error}"),
        (_, None) => what,
    };
    let hint = job.hint.clone().unwrap_or_else(|| format!("mongokeep job log {} tells more", job.id));
    Some(Error::new(ErrorKind::Failed, text).hint(hint))
}
