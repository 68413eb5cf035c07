//! Synthetic data sets for demonstrations and for tests of scale.
//!
//! **Items.** Each item has a theme (of 40, [`words::themes`]), a style (of 8), a kind (of the platform's 12) and a
//! popularity: Zipf, weight `(rank + 10)^-0.9`. Its title consists of a maker, the style, one or two of the theme's
//! words and the kind: `Norvex Vintage Galaxy Rocket Poster`. Media uses the first eight of a theme's twelve words,
//! goods the last eight. The platforms share four words per theme and all styles, but no kind, maker, item or user.
//!
//! **Users.** Each user has two or three interests (weights 3 : 2 : 1), a style, and a number of events (5 +
//! geometric). An event is, with probability `noise`, an item drawn by popularity. Otherwise its theme is that of the
//! last item (70 %) or one of the user's interests. With probability 30 % its kind is the one after the last item's
//! kind in the platform's order (book → film → soundtrack …). Among the matching items one is drawn by popularity, with
//! three times the weight if its style is the user's. No item occurs twice in a user history,
//! unless the catalogue is too small.
//!
//! The text therefore determines the theme on both platforms, so that a model trained on one can transfer to the other.
//! Popularity, noise and short histories resemble real data.
//!
//! Each item and user has its own random stream, so that a data set is written as a stream; memory grows by a few bytes
//! per user and about 100 bytes per item.

mod config;
mod covers;
mod process;
pub mod words;
mod write;

pub use config::{Platform, SynthConfig};
pub use write::write;
