//! What mongokeep notes in a server's oplog (`appendOplogNote`), for those who record it.

use mongodb::bson::{Document, doc};

use crate::artifact::bson;
use crate::domain::pitr::{Mark, MarkKind};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;

const FIELD: &str = "mongokeep";
const WORDS: [(MarkKind, &str); 2] =
    [(MarkKind::RestoreBegan, "restore_began"), (MarkKind::RestoreEnded, "restore_ended")];
/// Nobody needs more of it on a screen.
const LONGEST: usize = 200;

/// The data of a note.
pub fn of(kind: MarkKind, text: &str) -> Document {
    let word = WORDS.iter().find(|(k, _)| *k == kind).map_or("", |(_, word)| word);
    doc! {FIELD: {"mark": word, "text": text}}
}

/// The mark that an oplog entry of type `n` carries, when it is one of ours.
pub fn read(ts: Timestamp, entry: &[u8]) -> Option<Mark> {
    let note = bson::get(bson::get(entry, "o")?.document()?, FIELD)?.document()?;
    let word = bson::get(note, "mark")?.str()?;
    let (kind, _) = WORDS.iter().find(|(_, w)| *w == word)?;
    let text = bson::get(note, "text").and_then(|e| e.str()).unwrap_or_default();
    Some(Mark { ts, kind: *kind, text: escape(&text.chars().take(LONGEST).collect::<String>()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_a_mark_and_others_do_not() {
        let ts = Timestamp::new(5, 1);
        let entry = |o: Document| doc! {"op": "n", "ns": "", "o": o}.to_vec().unwrap();
        let mark = read(ts, &entry(of(MarkKind::RestoreBegan, "nightly\u{1b}[2J"))).unwrap();
        assert_eq!((mark.ts, mark.kind), (ts, MarkKind::RestoreBegan));
        assert!(mark.text.starts_with("nightly") && !mark.text.contains('\u{1b}'));
        for other in [doc! {"msg": "periodic noop"}, doc! {"mongokeep": 1}, doc! {"mongokeep": {"mark": "x"}}] {
            assert_eq!(read(ts, &entry(other)), None);
        }
    }
}
