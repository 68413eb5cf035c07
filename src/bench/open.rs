//! Creates the work of a case from its specification.

use super::case::Case;
use super::cases::{Kind, Spec};
use super::{ranking, recommend, sasrec, text, vision};
use crate::error::Result;

/// Prepares the work of a case.
pub fn open(spec: &Spec) -> Result<Box<dyn Case>> {
    Ok(match spec.kind {
        Kind::Text => Box::new(text::Training::new(spec)?),
        Kind::Sasrec => Box::new(sasrec::Training::new(spec)?),
        Kind::Morec | Kind::MorecFrozen => Box::new(recommend::Training::new(spec)?),
        Kind::Encode | Kind::EncodeOnnx => Box::new(text::Encoding::new(spec)?),
        Kind::Vit | Kind::VitEncode | Kind::Resnet | Kind::ResnetEncode => Box::new(vision::Network::new(spec)?),
        Kind::Decode => Box::new(vision::Decoding::new(spec)?),
        Kind::Rank => Box::new(ranking::Ranking::new(spec)),
    })
}
