//! Builds the user encoder that the settings name.

use super::{Bert4Rec, Caser, Dssm, Gru4Rec, MeanPooling, NextItNet, SasRec, UserEncoder};
use crate::config::{UserConfig, UserKind};
use crate::error::{Error, Result};
use crate::nn::Scope;

/// Builds the configured user encoder; `users` is the number of rows of its user table, if it has one.
pub fn build(scope: &Scope, c: &UserConfig, users: usize) -> Result<Box<dyn UserEncoder>> {
    Ok(match c.kind {
        UserKind::Sasrec => Box::new(SasRec::new(scope, c)?),
        UserKind::Bert4rec => Box::new(Bert4Rec::new(scope, c)?),
        UserKind::Gru4rec => Box::new(Gru4Rec::new(scope, c)?),
        UserKind::Nextitnet => Box::new(NextItNet::new(scope, c)?),
        UserKind::Caser => Box::new(Caser::new(scope, c, users)?),
        UserKind::Mean => Box::new(MeanPooling),
        UserKind::Dssm => Box::new(Dssm::new(scope, c, users)?),
        UserKind::Custom => {
            return Err(Error::config(
                "user.kind",
                "`custom` is for programs with a user encoder of their own (examples/custom_user_encoder.rs); the command \
                 has sasrec, bert4rec, gru4rec, nextitnet, caser, mean, dssm",
            ));
        }
    })
}
