//! Image preprocessing: compressed bytes → RGB → the size and scale that an encoder was trained with.

mod augment;
mod decode;
mod preprocess;
mod resize;
mod rgb;

pub use augment::Augment;
pub use decode::{Fault, MAX_PIXELS, check, decode, encode_png};
pub use preprocess::Preprocess;
pub use resize::{Filter, resize};
pub use rgb::Rgb;
