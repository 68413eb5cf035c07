//! User encoders: packed histories → a hidden state after each event.

mod bert4rec;
mod build;
mod caser;
mod encoder;
mod gru4rec;
mod nextitnet;
mod pooled;
mod sasrec;
mod transformer;

pub use bert4rec::Bert4Rec;
pub use build::build;
pub use caser::Caser;
pub use encoder::{Histories, UserEncoder, UserEncoderBuilder};
pub use gru4rec::Gru4Rec;
pub use nextitnet::NextItNet;
pub use pooled::{Dssm, MeanPooling};
pub use sasrec::SasRec;
