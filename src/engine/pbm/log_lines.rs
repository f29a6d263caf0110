//! The lines that agents log about an operation, each of them once.
//!
//! PBM gives the newest lines, and not those since another one. Clocks of nodes differ, and two lines may be the same, so
//! that lines are told apart by how often each stood in the answer before.

use std::collections::HashMap;

use super::answers::LogEntry;

/// Lines that are asked for at once. When an agent logs more of them between two questions, the oldest are lost.
pub const TAIL: usize = 500;

type LineKey = (String, String, String);

/// Knows the lines of the answer before.
#[derive(Debug, Default)]
pub struct LogLines {
    before: HashMap<LineKey, usize>,
    asked: bool,
}

impl LogLines {
    /// Those lines of `answer` that are new, in its order, and whether some between them may be missing.
    pub fn new_ones(&mut self, answer: Vec<LogEntry>) -> (Vec<LogEntry>, bool) {
        let mut known = std::mem::take(&mut self.before);
        let full = answer.len() >= TAIL;
        let mut repeated = false;
        let mut new = Vec::new();
        for entry in answer {
            let key = (entry.ts.to_string(), entry.node.clone(), entry.msg.clone());
            *self.before.entry(key.clone()).or_default() += 1;
            match known.get_mut(&key).filter(|left| **left > 0) {
                Some(left) => {
                    *left -= 1;
                    repeated = true;
                }
                None => new.push(entry),
            }
        }
        let missing = full && self.asked && !repeated;
        self.asked = true;
        (new, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::answers::Moment;
    use crate::engine::pbm::tests::answer;

    fn line(second: i64, node: &str, msg: &str) -> LogEntry {
        let mut line = answer::<Vec<LogEntry>>("logs-default").remove(0);
        (line.ts, line.node, line.msg) = (Moment::Unix(second), node.to_owned(), msg.to_owned());
        line
    }

    #[test]
    fn each_line_comes_once_even_when_it_comes_late_or_twice() {
        let mut lines = LogLines::default();
        let first = vec![line(10, "a", "x"), line(10, "a", "x"), line(12, "b", "y")];
        assert_eq!(lines.new_ones(first.clone()).0, first);
        // The clock of c is late, and a says x for the third time.
        let second =
            vec![line(10, "a", "x"), line(10, "a", "x"), line(10, "a", "x"), line(11, "c", "z"), line(12, "b", "y")];
        assert_eq!(lines.new_ones(second.clone()), (vec![line(10, "a", "x"), line(11, "c", "z")], false));
        assert_eq!(lines.new_ones(second), (vec![], false));
        assert_eq!(lines.new_ones(vec![]), (vec![], false));
    }

    #[test]
    fn lines_that_may_be_missing_are_noticed() {
        let mut lines = LogLines::default();
        let many = |from: i64| (from..from + TAIL as i64).map(|n| line(n, "a", "x")).collect::<Vec<_>>();
        assert!(!lines.new_ones(many(1000)).1, "what was logged before it was asked is not missing");
        assert!(!lines.new_ones(many(1400)).1);
        assert!(lines.new_ones(many(2400)).1);
    }
}
