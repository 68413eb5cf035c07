//! Synthetic data sets for demonstrations and for tests of scale.
//!
//! **Items.** Each has a theme (of 40 interests, [`words::themes`]), a style (of 8), a kind (of the platform's 12) and
//! a popularity: Zipf, weight `(rank + 10)^-0.9`. Its title names a maker, the style, one or two of the theme's words
//! and the kind: `Norvex Vintage Galaxy Rocket Poster`. Media draws from the first eight of a theme's twelve words,
//! goods from the last eight: platforms share four words a theme, and all styles; no kind, maker, item or user.
//!
//! **Users.** Each has two or three interests (weights 3 : 2 : 1), a style, and a number of events (5 + geometric).
//! Step by step: with probability `noise` any item by popularity; otherwise the theme is the last item's (70 %), or
//! one of the user's interests; with 30 % the kind is the one that follows the last item's kind in the platform's
//! order (book → film → soundtrack …); among the items that fit, one by popularity, three times as readily if the
//! style is the user's. Nothing twice.
//!
//! So text says what an interest is, on any platform; popularity, noise and thin histories are as usual; and what is
//! learned on one platform is true of the other.
//!
//! Every item and user has its own random stream: a data set is written as a stream, in memory that grows by a few
//! bytes a user and some 100 bytes an item.

mod config;
mod covers;
mod process;
pub mod words;
mod write;

pub use config::{Platform, SynthConfig};
pub use write::write;
