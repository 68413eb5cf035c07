//! Caser (Tang & Wang 2018) as in RecBole: horizontal and vertical convolutions over the last few events, with or
//! without a learned user vector.
//!
//! The output of a horizontal filter that ends at an event is the same in every window that contains it. So each filter
//! runs once over the history, and each window takes the maximum of its outputs.

use super::encoder::user_rows;
use super::{Histories, UserEncoder};
use crate::config::UserConfig;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::{Act, Linear, Pass, Scope, Weight, ops};

/// Convolutions over the last `window` events.
pub struct Caser {
    /// Horizontal filters of height h = 1, 2, …: weight (filters, h·d), bias (filters).
    horizontal: Vec<(Linear, Weight)>,
    vertical: Linear,
    fc1: Linear,
    fc2: Linear,
    users: Option<Weight>,
    window: usize,
    dropout: f32,
}

impl Caser {
    /// Declares `conv_h.{h}`, `conv_v`, `fc1`, `fc2` and, with user ids, `user_embedding` (users, d).
    pub fn new(scope: &Scope, c: &UserConfig, users: usize) -> Result<Self> {
        let d = c.dim;
        let horizontal = (1..=c.window)
            .map(|h| {
                let s = scope.pp(format!("conv_h.{}", h - 1));
                let weight = s.weight("weight", &[c.horizontal, h * d], Init::XavierNormal)?;
                Ok((Linear::of(weight, None), s.weight("bias", &[c.horizontal], Init::Zeros)?))
            })
            .collect::<Result<_>>()?;
        let wide = c.vertical * d + c.horizontal * c.window;
        let table = scope.pp("user_embedding");
        let init = Init::Normal(1.0 / d as f64);
        Ok(Self {
            horizontal,
            vertical: Linear::new(&scope.pp("conv_v"), c.window, c.vertical, true, Init::XavierNormal)?,
            fc1: Linear::new(&scope.pp("fc1"), wide, d, true, Init::XavierNormal)?,
            fc2: Linear::new(&scope.pp("fc2"), if c.user_id { 2 * d } else { d }, d, true, Init::XavierNormal)?,
            users: if c.user_id { Some(table.weight("weight", &[users, d], init)?) } else { None },
            window: c.window,
            dropout: c.dropout as f32,
        })
    }
}

impl UserEncoder for Caser {
    fn encode(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        let s = &h.segments;
        let mut parts = vec![ops::vertical_conv(pass, x, s, &self.vertical)?];
        for (i, (conv, bias)) in self.horizontal.iter().enumerate() {
            let slices = ops::causal_conv(pass, x, s, conv, i + 1, 1)?;
            let largest = ops::causal_max_pool(pass, &slices, s, self.window - i, bias)?;
            parts.push(ops::activation(pass, &largest, Activation::Relu)?);
        }
        let all = ops::concat_columns(pass, &parts.iter().collect::<Vec<_>>())?;
        let all = ops::dropout(pass, &all, self.dropout)?;
        let mut z = ops::activation(pass, &ops::linear(pass, &all, &self.fc1)?, Activation::Relu)?;
        if let Some(table) = &self.users {
            let users = ops::embed(pass, None, &[(table, user_rows(h)?)])?;
            z = ops::concat_columns(pass, &[&z, &users])?;
        }
        ops::activation(pass, &ops::linear(pass, &z, &self.fc2)?, Activation::Relu)
    }
    fn knows_users(&self) -> bool {
        self.users.is_some()
    }
}
