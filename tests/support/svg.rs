//! What a terminal shows, as an SVG: cell by cell, in the colours of the usual palette of 256.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;
use vt100::{Cell, Color, Screen};

/// Pixels of a cell.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 17.0;
const MARGIN: f64 = 12.0;

/// The colours of the terminal itself.
#[derive(Clone, Copy)]
pub struct Ground {
    pub text: &'static str,
    pub back: &'static str,
}

pub const DARK: Ground = Ground { text: "#d0d0d0", back: "#16181d" };
pub const LIGHT: Ground = Ground { text: "#24292e", back: "#ffffff" };

/// One picture.
pub fn still(screen: &Screen, ground: Ground) -> String {
    wrapped(screen.size(), ground, "", &rows(screen, ground))
}

/// Pictures one after another, each shown for as many seconds as stand beside it, again and again.
pub fn moving(frames: &[(Screen, f64)], ground: Ground) -> String {
    let total: f64 = frames.iter().map(|(_, seconds)| seconds).sum();
    let (mut style, mut body, mut at) = (String::new(), String::new(), 0.0);
    for (i, (screen, seconds)) in frames.iter().enumerate() {
        let (from, to) = (at / total * 100.0, (at + seconds) / total * 100.0);
        // Where nothing moves, the first one is seen.
        let (rest, before) =
            if i == 0 { ("visible", String::new()) } else { ("hidden", "0%{visibility:hidden}".into()) };
        writeln!(style, ".f{i}{{visibility:{rest};animation:a{i} {total}s step-end infinite}}").unwrap();
        let after = if i + 1 < frames.len() { format!("{to:.3}%{{visibility:hidden}}") } else { String::new() };
        writeln!(style, "@keyframes a{i}{{{before}{from:.3}%{{visibility:visible}}{after}}}").unwrap();
        writeln!(body, "<g class=\"f{i}\">\n{}</g>", rows(screen, ground)).unwrap();
        at += seconds;
    }
    wrapped(frames[0].0.size(), ground, &style, &body)
}

fn wrapped((rows, columns): (u16, u16), ground: Ground, style: &str, body: &str) -> String {
    let width = f64::from(columns) * WIDTH + 2.0 * MARGIN;
    let height = f64::from(rows) * HEIGHT + 2.0 * MARGIN;
    let font = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace";
    let (text, back) = (ground.text, ground.back);
    // On a group, where what a run says of itself wins.
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.1} {height:.1}\">\n<style>\n{style}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{back}\"/>\n\
         <g fill=\"{text}\" font-family=\"{font}\" font-size=\"14\" xml:space=\"preserve\">\n{body}</g>\n</svg>\n"
    )
}

/// What makes two neighbours one run.
#[derive(PartialEq, Clone)]
struct Look {
    text: String,
    back: Option<String>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
}

fn rows(screen: &Screen, ground: Ground) -> String {
    let (height, width) = screen.size();
    let mut out = String::new();
    for row in 0..height {
        let mut column = 0;
        while column < width {
            let look = look(screen.cell(row, column).unwrap(), ground);
            let begin = column;
            let mut text = String::new();
            while column < width {
                let cell = screen.cell(row, column).unwrap();
                if self::look(cell, ground) != look {
                    break;
                }
                if !cell.is_wide_continuation() {
                    text.push_str(if cell.has_contents() { cell.contents() } else { " " });
                }
                column += 1;
            }
            run(&mut out, row, begin, column - begin, &look, &text);
        }
    }
    out
}

fn run(out: &mut String, row: u16, column: u16, columns: u16, look: &Look, text: &str) {
    let (x, y) = (MARGIN + f64::from(column) * WIDTH, MARGIN + f64::from(row) * HEIGHT);
    let width = f64::from(columns) * WIDTH;
    if let Some(back) = &look.back {
        writeln!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{back}\"/>")
            .unwrap();
    }
    let mut style = String::new();
    if !look.text.is_empty() {
        write!(style, " fill=\"{}\"", look.text).unwrap();
    }
    for (is, attribute) in
        [(look.bold, " font-weight=\"bold\""), (look.dim, " opacity=\"0.6\""), (look.italic, " font-style=\"italic\"")]
    {
        if is {
            style.push_str(attribute);
        }
    }
    let base = y + HEIGHT * 0.74;
    // Words stand at their own places: not every program keeps spaces as they are.
    let mut at = 0;
    for word in text.split_inclusive("  ") {
        let (lead, own) = (word.len() - word.trim_start().len(), word.trim());
        if !own.is_empty() {
            let x = x + (at + lead) as f64 * WIDTH;
            let length = own.width() as f64 * WIDTH;
            let own = own.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            writeln!(out, "<text x=\"{x:.1}\" y=\"{base:.1}\" textLength=\"{length:.1}\"{style}>{own}</text>").unwrap();
        }
        at += word.width();
    }
    if look.underline {
        let y = y + HEIGHT * 0.88;
        let colour = if look.text.is_empty() { String::new() } else { format!(" fill=\"{}\"", look.text) };
        writeln!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"1\"{colour} opacity=\"0.7\"/>")
            .unwrap();
    }
}

fn look(cell: &Cell, ground: Ground) -> Look {
    let text = colour(cell.fgcolor());
    let back = colour(cell.bgcolor());
    let (text, back) = if cell.inverse() {
        let of = |colour: Option<String>, own: &str| Some(colour.unwrap_or_else(|| own.to_owned()));
        (of(back, ground.back), of(text, ground.text))
    } else {
        (text, back)
    };
    Look {
        text: text.unwrap_or_default(),
        back,
        bold: cell.bold(),
        dim: cell.dim(),
        italic: cell.italic(),
        underline: cell.underline(),
    }
}

/// `None`: that of the terminal.
fn colour(colour: Color) -> Option<String> {
    const NAMED: [&str; 16] = [
        "#000000", "#cd3131", "#0dbc79", "#e5e510", "#2472c8", "#bc3fbc", "#11a8cd", "#e5e5e5", "#666666", "#f14c4c",
        "#23d18b", "#f5f543", "#3b8eea", "#d670d6", "#29b8db", "#ffffff",
    ];
    match colour {
        Color::Default => None,
        Color::Rgb(r, g, b) => Some(format!("#{r:02x}{g:02x}{b:02x}")),
        Color::Idx(i @ 0..16) => Some(NAMED[usize::from(i)].to_owned()),
        Color::Idx(i @ 232..) => Some(format!("#{0:02x}{0:02x}{0:02x}", 8 + (i - 232) * 10)),
        Color::Idx(i) => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + n * 40 };
            let (r, g, b) = (level((i - 16) / 36), level((i - 16) / 6 % 6), level((i - 16) % 6));
            Some(format!("#{r:02x}{g:02x}{b:02x}"))
        }
    }
}
