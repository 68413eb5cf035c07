//! Vocabulary of synthetic titles.

/// Interests shared by both synthetic data sets: a name, then its words. Each data set uses a part of the words only
/// (see [`super`]), so that the two share some words.
const THEMES: &str = include_str!("themes.txt");

/// A theme that users can be interested in.
#[derive(Debug, Clone)]
pub struct Theme {
    /// Name of the theme.
    pub name: &'static str,
    /// Twelve words of the theme.
    pub words: Vec<&'static str>,
}

/// All 40 themes, in order.
pub fn themes() -> Vec<Theme> {
    let line = |l: &'static str| {
        let (name, words) = l.split_once(": ").unwrap_or((l, l));
        Theme { name, words: words.split(", ").collect() }
    };
    THEMES.lines().map(line).collect()
}

/// Styles shared by both synthetic data sets.
pub const STYLES: [[&str; 3]; 8] = [
    ["vintage", "retro", "classic"],
    ["minimalist", "simple", "clean"],
    ["luxury", "premium", "deluxe"],
    ["funny", "humorous", "silly"],
    ["kids", "little", "junior"],
    ["dark", "gothic", "black"],
    ["colorful", "bright", "vivid"],
    ["handmade", "artisan", "rustic"],
];

/// Kinds of items in the media data set.
pub const MEDIA: [&str; 12] = [
    "novel",
    "film",
    "soundtrack",
    "comic",
    "documentary",
    "board game",
    "audiobook",
    "magazine",
    "picture book",
    "video game",
    "TV series",
    "puzzle",
];

/// Kinds of items in the goods data set.
pub const GOODS: [&str; 12] = [
    "poster",
    "mug",
    "t-shirt",
    "backpack",
    "lamp",
    "notebook",
    "figurine",
    "blanket",
    "phone case",
    "socks",
    "wall clock",
    "keychain",
];

/// Details at the end of a title.
pub const DETAILS: [&str; 14] = [
    "",
    "",
    "",
    "",
    "second edition",
    "gift set",
    "limited edition",
    "for beginners",
    "volume two",
    "pack of 2",
    "anniversary edition",
    "large",
    "collector's box",
    "new release",
];

/// Syllables of makers' names, which carry no information about the item.
pub const SYLLABLES: [&str; 20] = [
    "nor", "vex", "lu", "mara", "tel", "quin", "bri", "sol", "dan", "ker", "fio", "zan", "wil", "pro", "eth", "ori",
    "cal", "um", "tis", "bel",
];
