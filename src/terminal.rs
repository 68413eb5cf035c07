//! Escaping of text from data sets, model folders, servers and the command line for safe output on a terminal.
//!
//! A title may contain an escape sequence that moves the cursor or changes colours, a carriage return that hides the
//! text before it, or a bidirectional override that reorders the line. Such characters are printed as escapes like
//! `\u{1b}`.

use std::borrow::Cow;

/// Whether a character controls a terminal instead of being displayed: C0 and C1 controls, DEL, line and paragraph
/// separators, and the characters that override or isolate the writing direction.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| acts(c) && !keep(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match acts(c) && !keep(c) {
            // ASCII controls: `\n`, `\r`, `\t` by name, others by code point. All other characters by code point.
            true if c.is_ascii_control() => out.extend(c.escape_default()),
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Escapes a single line or table cell: all control characters, line ends and tabs included.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Escapes text of several lines: all control characters except line feeds and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// Prints a message and a line end to stderr, escaped by [`lines`]. A closed stderr is no error.
pub fn message(text: &str) {
    use std::io::Write;
    writeln!(std::io::stderr().lock(), "{}", lines(text)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown() {
        assert_eq!(line("a\u{1b}[31mred\u{7}"), "a\\u{1b}[31mred\\u{7}");
        assert_eq!(line("two\r\nlines\there\0"), "two\\r\\nlines\\there\\u{0}");
        assert_eq!(lines("two\r\nlines\there"), "two\\r\nlines\there");
        assert_eq!(line("del\u{7f} c1\u{9b}31m"), "del\\u{7f} c1\\u{9b}31m");
        assert_eq!(line("abc\u{202e}fed\u{2066}x\u{2069}"), "abc\\u{202e}fed\\u{2066}x\\u{2069}");
        assert_eq!(lines("a\u{2028}b"), "a\\u{2028}b");
    }

    #[test]
    fn other_text_stays_and_is_not_copied() {
        // Letters of several scripts, combining marks, emoji joiners, and the marks required in Hebrew and Arabic text.
        for text in ["", "Käse – 10 % \\ \"x\"", "日本語", "e\u{301}", "👩\u{200d}🔬", "שלום\u{200f}", "\u{ad}"]
        {
            assert!(matches!(line(text), Cow::Borrowed(t) if t == text), "{text:?}");
        }
    }
}
