//! A backup that failed and cannot be described.
//!
//! PBM looks into the storage to describe a backup that is not done. When that does not answer any more, which is often why it
//! failed, its end stands nowhere but in what its agents logged.

use tokio_util::sync::CancellationToken;

use super::Follow;
use super::course::{Course, unseen};
use crate::engine::pbm::answers::{LogEntry, Status};
use crate::engine::pbm::log_lines::TAIL;
use crate::engine::pbm::operation::{Operation, OperationState};
use crate::engine::pbm::program::ASK_LIMIT;
use crate::error::Error;

impl Follow<'_> {
    /// The error of the backup `name` when its agents say why they gave up, and none of them is at it in two looks on end: one
    /// that was done meanwhile can be described in the second.
    pub(super) async fn gave_up(&mut self, name: &str, course: &mut Course) -> Option<Error> {
        let never = CancellationToken::new();
        let running = self.running(&never).await.ok().flatten()?;
        let own = course.seen.as_ref().map(|state| state.op_id.as_str()).filter(|op_id| !op_id.is_empty());
        if !running.is_none() && own.is_none_or(|own| running.op_id == own) {
            course.idle_looks = 0;
            return None;
        }
        let state = unseen(Operation::Backup, name, course);
        let event = format!("{}/{name}", Operation::Backup.word());
        let tail = TAIL.to_string();
        let arguments = ["logs", "-e", &event, "-t", &tail, "-s", "E"];
        let answer = self.program.call(&arguments, ASK_LIMIT, &never).await.ok()?;
        let lines = answer.parse::<Option<Vec<LogEntry>>>("log").ok()?.unwrap_or_default();
        // What PBM noted of the backup itself, which it would be described with; others may say what came of that.
        let prefix = format!("{}: ", Operation::Backup.word());
        let noted = lines.iter().find_map(|line| line.msg.strip_prefix(&prefix));
        let cause = self.program.redactor().shown(noted.unwrap_or(&lines.first()?.msg));
        course.idle_looks += 1;
        if course.idle_looks < 2 {
            return None;
        }
        let state = OperationState { status: Status::Error, error: Some(cause), ..state };
        self.finish(course, state.clone()).await;
        state.must_be_good().err()
    }
}
