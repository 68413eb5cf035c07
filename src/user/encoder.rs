//! What every user encoder does, and the packed histories it reads.

use crate::config::UserConfig;
use crate::error::{Error, Result};
use crate::nn::{Act, Pass, Scope, Segments, Weight};
use std::sync::Arc;

/// Histories of a batch, packed; no slot of padding exists.
#[derive(Debug, Clone)]
pub struct Histories {
    /// Length of each history.
    pub segments: Segments,
    /// Slot of each event when histories are aligned at their end (the reference's left padding).
    pub slots: Arc<Vec<u32>>,
    /// Whose each history is: rows of a table of users. Empty where nobody asks.
    pub users: Vec<u32>,
}

impl Histories {
    /// Of these lengths, none longer than `slots`.
    pub fn new(lengths: impl IntoIterator<Item = usize>, slots: usize) -> Self {
        let segments = Segments::from_lengths(lengths);
        let at = segments.iter().flat_map(|(_, l)| (slots - l..slots).map(|s| s as u32)).collect();
        Self { segments, slots: Arc::new(at), users: vec![] }
    }
    /// The same, of these users.
    pub fn of(self, users: Vec<u32>) -> Self {
        Self { users, ..self }
    }
}

/// The user's row for each of the t events.
pub(super) fn user_rows(h: &Histories) -> Result<Arc<Vec<u32>>> {
    if h.users.len() != h.segments.len() {
        return Err(Error::Usage(
            "this model knows its users by id: it answers for users of its own data set, not for bare histories".into(),
        ));
    }
    let rows = h.users.iter().zip(h.segments.iter()).flat_map(|(&u, (_, l))| std::iter::repeat_n(u, l));
    Ok(Arc::new(rows.collect()))
}

/// Turns item vectors in order of time into user states.
pub trait UserEncoder: Send + Sync {
    /// x (t, d) packed as `histories` → (t, d): the state after each event.
    fn encode(&self, x: &Act, histories: &Histories, pass: &Pass) -> Result<Act>;
    /// What stands in place of a hidden item (d), for encoders that predict hidden items.
    fn mask(&self) -> Option<&Weight> {
        None
    }
    /// Whether it has a vector for each user of one data set.
    fn knows_users(&self) -> bool {
        false
    }
}

/// Builds a user encoder of the caller's own (`user.kind = "custom"`): declares its parameters below the scope.
pub type UserEncoderBuilder = Arc<dyn Fn(&Scope, &UserConfig) -> Result<Box<dyn UserEncoder>> + Send + Sync>;
