//! The interface of user encoders, and the packed histories that they read.

use crate::config::UserConfig;
use crate::error::{Error, Result};
use crate::nn::{Act, Pass, Scope, Segments, Weight};
use std::sync::Arc;

/// Histories of a batch, packed without padding.
#[derive(Debug, Clone)]
pub struct Histories {
    /// Length of each history.
    pub segments: Segments,
    /// Slot of each event if histories are right-aligned in a fixed number of slots (the reference's left padding).
    pub slots: Arc<Vec<u32>>,
    /// Row of each history's user in the user table; empty for models without user ids.
    pub users: Vec<u32>,
}

impl Histories {
    /// Histories of these lengths, none longer than `slots`, without user ids.
    pub fn new(lengths: impl IntoIterator<Item = usize>, slots: usize) -> Self {
        let segments = Segments::from_lengths(lengths);
        let at = segments.iter().flat_map(|(_, l)| (slots - l..slots).map(|s| s as u32)).collect();
        Self { segments, slots: Arc::new(at), users: vec![] }
    }
    /// Sets the user of each history, as a row of the user table.
    pub fn of(self, users: Vec<u32>) -> Self {
        Self { users, ..self }
    }
}

/// Row of the user table for each of the t events; an error for histories without user ids.
pub(super) fn user_rows(h: &Histories) -> Result<Arc<Vec<u32>>> {
    if h.users.len() != h.segments.len() {
        return Err(Error::Usage(
            "this model knows its users by id: it answers for users of its own data set, not for bare histories".into(),
        ));
    }
    let rows = h.users.iter().zip(h.segments.iter()).flat_map(|(&u, (_, l))| std::iter::repeat_n(u, l));
    Ok(Arc::new(rows.collect()))
}

/// A user encoder: maps sequences of item vectors to hidden states of the user.
pub trait UserEncoder: Send + Sync {
    /// Encodes x (t, d), packed as `histories`, in order of time → (t, d), the hidden state after each event.
    fn encode(&self, x: &Act, histories: &Histories, pass: &Pass) -> Result<Act>;
    /// Learned vector (d) of a masked position, for encoders that are trained to predict masked items.
    fn mask(&self) -> Option<&Weight> {
        None
    }
    /// Whether it has a learned vector for each user of one data set.
    fn knows_users(&self) -> bool {
        false
    }
}

/// Builds a user-defined encoder (`user.kind = "custom"`), which declares its parameters below the scope.
pub type UserEncoderBuilder = Arc<dyn Fn(&Scope, &UserConfig) -> Result<Box<dyn UserEncoder>> + Send + Sync>;
