//! The last step of a frame with `--ascii`: every cell becomes one byte below 0x80.
//!
//! One pass over the finished frame cannot forget a place, which a check in every view could.

use ratatui::buffer::Buffer;

/// Replaces what is not ASCII: signs by their nearest, everything else by a question mark.
pub fn reduce(buffer: &mut Buffer, frame: usize) {
    for cell in &mut buffer.content {
        if cell.symbol().is_ascii() {
            continue;
        }
        let c = cell.symbol().chars().next().unwrap_or(' ');
        let plain = match c {
            '─' | '━' | '—' | '–' => "-",
            '│' | '┃' | '▏' => "|",
            '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' => "+",
            // Not a dot, which would be taken for the end of a name.
            '…' => "~",
            '·' => ".",
            '›' | '▸' | '→' => ">",
            '▾' => "v",
            '←' => "<",
            '↑' => "^",
            '↓' => "v",
            '▲' => "^",
            '↺' => "R",
            '✓' => "+",
            '✗' => "x",
            '●' | '•' => "*",
            '○' | '◌' => "o",
            '▌' => ">",
            '█' => "#",
            '░' => ".",
            '▒' => "%",
            '◆' => "?",
            '‖' => "=",
            '⚑' => "P",
            // A spark line keeps its shape as well as seven-bit signs can.
            '▁' | '▂' => "_",
            '▃' | '▄' => "-",
            '▅' | '▆' => "=",
            '▇' => "#",
            // A spinner.
            '\u{2800}'..='\u{28ff}' => ["|", "/", "-", "\\"][frame % 4],
            _ => "?",
        };
        cell.set_symbol(plain);
    }
}
