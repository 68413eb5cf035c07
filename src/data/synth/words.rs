//! The words that invented titles are made of.

/// Interests that people take from one platform to another: a name, then words for it. A platform draws from a part
/// of the words only (see [`super`]), so that two platforms share some and not others.
const THEMES: &str = include_str!("themes.txt");

/// An interest.
#[derive(Debug, Clone)]
pub struct Theme {
    /// Its name.
    pub name: &'static str,
    /// Twelve words for it.
    pub words: Vec<&'static str>,
}

/// All 40, in order.
pub fn themes() -> Vec<Theme> {
    let line = |l: &'static str| {
        let (name, words) = l.split_once(": ").unwrap_or((l, l));
        Theme { name, words: words.split(", ").collect() }
    };
    THEMES.lines().map(line).collect()
}

/// Tastes that people take along as well.
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

/// Kinds of things on a platform of media.
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

/// Kinds of things on a platform of goods.
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

/// What a title may end with.
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

/// Syllables of makers' names; they say nothing of the item.
pub const SYLLABLES: [&str; 20] = [
    "nor", "vex", "lu", "mara", "tel", "quin", "bri", "sol", "dan", "ker", "fio", "zan", "wil", "pro", "eth", "ori",
    "cal", "um", "tis", "bel",
];
