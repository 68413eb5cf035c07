//! Cleaning of item text: HTML entities decoded, white space collapsed.

use std::borrow::Cow;

/// Decodes HTML entities once, trims, and collapses each run of white space (no-break spaces and line ends included)
/// to one space.
pub fn clean(text: &str) -> String {
    let decoded = if text.contains('&') { html_escape::decode_html_entities(text) } else { Cow::Borrowed(text) };
    let mut out = String::with_capacity(decoded.len());
    for word in decoded.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Number of words separated by white space.
pub fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Name of the first suspicious property of a text; `None` if there is none.
pub fn problem(text: &str) -> Option<&'static str> {
    if text.contains('\u{fffd}') {
        Some("replacement characters (bytes were lost before the import)")
    } else if text.chars().any(|c| c.is_control()) {
        Some("control characters")
    } else if text.contains('&') && html_escape::decode_html_entities(text) != text {
        Some("HTML entities left (escaped twice in the source)")
    } else if ["Ã©", "Ã¨", "Ã¼", "Ã¶", "Ã¤", "â€™", "â€œ", "â€“"].iter().any(|m| text.contains(m))
    {
        Some("UTF-8 read as Latin-1 before the import")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_and_white_space() {
        assert_eq!(clean("  AT&amp;T\u{a0}&nbsp;&#39;x&#39;\t\n y &eacute;"), "AT&T 'x' y é");
        assert_eq!(clean("&amp;amp;"), "&amp;", "decoded once");
        assert_eq!(clean(" \u{a0} "), "");
        assert_eq!(clean("a & b &unknown; c"), "a & b &unknown; c");
        assert_eq!(words("a  b\tc"), 3);
        assert!(problem("&amp;").is_some() && problem("AT&T").is_none() && problem("a\u{7}").is_some());
    }
}
