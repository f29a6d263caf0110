use super::*;

fn key(code: KeyCode, modifiers: KeyModifiers) -> Event {
    Event::Key(KeyEvent::new(code, modifiers))
}

fn letters(text: &str) -> Vec<Event> {
    text.chars().map(|c| plain(KeyCode::Char(c))).collect()
}

/// What is decoded of these reads, each a while after the one before.
fn slowly(reads: &[&[u8]]) -> Vec<Event> {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    for read in reads {
        out.extend(decoder.feed(read));
        // The shortest wait for the rest is over.
        if decoder.patience() == Some(ESCAPE) {
            out.extend(decoder.expire());
        }
    }
    out.extend(decoder.expire());
    out
}

fn at_once(bytes: &[u8]) -> Vec<Event> {
    let mut decoder = Decoder::default();
    let mut out = decoder.feed(bytes);
    out.extend(decoder.expire());
    out
}

const ANSWERS: [&[u8]; 12] = [
    b"\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\",
    b"\x1b]11;rgb:1e1e/1e1e/1e1e\x07",
    b"\x1b]52;c;aGVsbG8=\x1b\\",
    b"\x1b[?62;22c",
    b"\x1b[>0;276;0c",
    b"\x1b[?2026;2$y",
    b"\x1b[24;80R",
    b"\x1b[8;24;80t",
    b"\x1bP>|XTerm(370)\x1b\\",
    b"\x1bP1$r0m\x1b\\",
    b"\x1b_Gi=31;OK\x1b\\",
    b"\x1b[?997;1n",
];

#[test]
fn what_a_terminal_answers_is_neither_text_nor_keys() {
    for answer in ANSWERS {
        let shown = String::from_utf8_lossy(answer).into_owned();
        assert_eq!(at_once(answer), [], "{shown:?}");
        let around = [b"a".as_slice(), answer, b"b"].concat();
        assert_eq!(at_once(&around), letters("ab"), "{shown:?}");
        // In two pieces, wherever it is cut, and byte by byte without a pause.
        for cut in 2..answer.len() {
            let (one, two) = answer.split_at(cut);
            assert_eq!(slowly(&[one, two, b"x"]), letters("x"), "{shown:?} cut at {cut}");
        }
        let mut decoder = Decoder::default();
        let single: Vec<Event> = answer.iter().flat_map(|byte| decoder.feed(&[*byte])).collect();
        assert_eq!(single, [], "{shown:?}");
        // An Esc that came alone for too long is the key; the rest is still no text.
        let esc = [plain(KeyCode::Esc)];
        assert_eq!(slowly(&[&answer[..1], &answer[1..]]), esc, "{shown:?}");
    }
}

#[test]
fn an_answer_in_a_paste_is_not_pasted() {
    let text = b"\x1b[200~one\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\two\r\x1b[201~3";
    assert_eq!(at_once(text), [Event::Paste("onetwo\r".into()), plain(KeyCode::Char('3'))]);
    // A paste that is never ended ends by itself.
    assert_eq!(at_once(b"\x1b[200~one"), [Event::Paste("one".into())]);
}

#[test]
fn keys_are_keys() {
    const NONE: KeyModifiers = KeyModifiers::NONE;
    const CTRL: KeyModifiers = KeyModifiers::CONTROL;
    const ALT: KeyModifiers = KeyModifiers::ALT;
    const SHIFT: KeyModifiers = KeyModifiers::SHIFT;
    for (bytes, code, modifiers) in [
        (b"\r".as_slice(), KeyCode::Enter, NONE),
        (b"\t", KeyCode::Tab, NONE),
        (b"\x1b[Z", KeyCode::BackTab, SHIFT),
        (b"\x7f", KeyCode::Backspace, NONE),
        (b"\x13", KeyCode::Char('s'), CTRL),
        (b"\x1a", KeyCode::Char('z'), CTRL),
        (b"\n", KeyCode::Char('j'), CTRL),
        (b"\x08", KeyCode::Char('h'), CTRL),
        (b"\x1f", KeyCode::Char('7'), CTRL),
        (b"\x1bf", KeyCode::Char('f'), ALT),
        (b"\x1b]", KeyCode::Null, NONE),
        (b"G", KeyCode::Char('G'), SHIFT),
        ("é".as_bytes(), KeyCode::Char('é'), NONE),
        ("日".as_bytes(), KeyCode::Char('日'), NONE),
        (b"\x1b[A", KeyCode::Up, NONE),
        (b"\x1bOA", KeyCode::Up, NONE),
        (b"\x1b[1;5C", KeyCode::Right, CTRL),
        (b"\x1b[1;2D", KeyCode::Left, SHIFT),
        (b"\x1b[H", KeyCode::Home, NONE),
        (b"\x1b[4~", KeyCode::End, NONE),
        (b"\x1b[3~", KeyCode::Delete, NONE),
        (b"\x1b[5~", KeyCode::PageUp, NONE),
        (b"\x1b[6;5~", KeyCode::PageDown, CTRL),
        (b"\x1bOP", KeyCode::F(1), NONE),
        (b"\x1b[11~", KeyCode::F(1), NONE),
        (b"\x1b[[A", KeyCode::F(1), NONE),
        (b"\x1b[24~", KeyCode::F(12), NONE),
        (b"\x1b[27;5;115~", KeyCode::Char('s'), CTRL),
        (b"\x1b[115;5u", KeyCode::Char('s'), CTRL),
        (b"\x1b[27u", KeyCode::Esc, NONE),
        (b"\x1b", KeyCode::Esc, NONE),
    ] {
        let expected = if code == KeyCode::Null { vec![] } else { vec![key(code, modifiers)] };
        assert_eq!(at_once(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(at_once(b"\x1b\x1b"), [plain(KeyCode::Esc), plain(KeyCode::Esc)]);
    // A letter in two pieces, and bytes that are no letter.
    let mut decoder = Decoder::default();
    assert_eq!(decoder.feed(&[0xc3]), []);
    assert_eq!(decoder.feed(&[0xa9]), [plain(KeyCode::Char('é'))]);
    assert_eq!(decoder.feed(b"\xff\xfea"), letters("a"));
    // Alt with a letter that also opens a string, and what is typed then.
    assert_eq!(at_once(b"\x1b]x"), [key(KeyCode::Char(']'), ALT), plain(KeyCode::Char('x'))]);
    // Not the release of a key.
    assert_eq!(at_once(b"\x1b[97;1:3u"), []);
}

#[test]
fn clicks_are_where_they_are() {
    let mouse = |kind, column, row| Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE });
    assert_eq!(at_once(b"\x1b[<0;10;3M"), [mouse(MouseEventKind::Down(MouseButton::Left), 9, 2)]);
    assert_eq!(at_once(b"\x1b[<0;10;3m"), [mouse(MouseEventKind::Up(MouseButton::Left), 9, 2)]);
    assert_eq!(at_once(b"\x1b[<64;1;1M"), [mouse(MouseEventKind::ScrollUp, 0, 0)]);
    assert_eq!(at_once(b"\x1b[<65;1;1M"), [mouse(MouseEventKind::ScrollDown, 0, 0)]);
    // The oldest form is no text either.
    assert_eq!(at_once(b"\x1b[M !!a"), letters("a"));
}

#[test]
fn no_bytes_make_it_panic_or_wait_for_ever() {
    use proptest::prelude::*;
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..200))| {
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        decoder.expire();
        prop_assert_eq!(decoder.patience(), None);
        prop_assert_eq!(decoder.feed(b"q"), [plain(KeyCode::Char('q'))]);
    });
}
