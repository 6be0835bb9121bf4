//! What commands a terminal, or shows a text in another order than it is in.

/// The text with U+FFFD for each control character but line feed and tab, and for Unicode's bidirectional controls
/// (UAX #9) and invisible characters; a line that ends with CR LF ends with LF.
pub(crate) fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            _ if misleads(c) => clean.push('\u{fffd}'),
            _ => clean.push(c),
        }
    }
    clean
}

/// Whether a terminal would act on the character, or show what follows in another order, or not show it at all.
#[must_use]
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
