//! User encoders that ignore the order of events: the mean of the history, and DSSM's network over the mean or the
//! user's id.

use super::encoder::user_rows;
use super::{Histories, UserEncoder};
use crate::config::UserConfig;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::{Act, Linear, Pass, Scope, Weight, ops};

/// Mean of the item vectors so far, without parameters.
pub struct MeanPooling;

impl UserEncoder for MeanPooling {
    fn encode(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        ops::running_mean(pass, x, &h.segments)
    }
}

/// DSSM (Huang et al. 2013): tanh layers, the last one linear, over the mean of the history (which transfers to other
/// platforms) or over a learned vector per user (which does not).
pub struct Dssm {
    tower: Vec<Linear>,
    users: Option<Weight>,
    dropout: f32,
}

impl Dssm {
    /// Declares `tower.{l}` and, with user ids, `user_embedding` (users, d).
    pub fn new(scope: &Scope, c: &UserConfig, users: usize) -> Result<Self> {
        let d = c.dim;
        let layer = |l: usize| Linear::new(&scope.pp(format!("tower.{l}")), d, d, true, Init::XavierNormal);
        let table = scope.pp("user_embedding");
        Ok(Self {
            tower: (0..c.layers).map(layer).collect::<Result<_>>()?,
            users: if c.user_id { Some(table.weight("weight", &[users, d], Init::XavierNormal)?) } else { None },
            dropout: c.dropout as f32,
        })
    }
}

impl UserEncoder for Dssm {
    fn encode(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        let x = match &self.users {
            Some(table) => ops::embed(pass, None, &[(table, user_rows(h)?)])?,
            None => ops::running_mean(pass, x, &h.segments)?,
        };
        let mut x = ops::dropout(pass, &x, self.dropout)?;
        for (i, l) in self.tower.iter().enumerate() {
            x = ops::linear(pass, &x, l)?;
            if i + 1 < self.tower.len() {
                x = ops::activation(pass, &x, Activation::Tanh)?;
            }
        }
        Ok(x)
    }
    fn knows_users(&self) -> bool {
        self.users.is_some()
    }
}
