//! User encoders: packed histories → a state after each event.

mod bert4rec;
mod caser;
mod gru4rec;
mod nextitnet;
mod pooled;
mod sasrec;
mod transformer;

pub use bert4rec::Bert4Rec;
pub use caser::Caser;
pub use gru4rec::Gru4Rec;
pub use nextitnet::NextItNet;
pub use pooled::{Dssm, MeanPooling};
pub use sasrec::SasRec;

use crate::config::{UserConfig, UserKind};
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
fn user_rows(h: &Histories) -> Result<Arc<Vec<u32>>> {
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

/// The configured user encoder; `users` is the size of a table of users, where it has one.
pub fn build(scope: &Scope, c: &UserConfig, users: usize) -> Result<Box<dyn UserEncoder>> {
    Ok(match c.kind {
        UserKind::Sasrec => Box::new(SasRec::new(scope, c)?),
        UserKind::Bert4rec => Box::new(Bert4Rec::new(scope, c)?),
        UserKind::Gru4rec => Box::new(Gru4Rec::new(scope, c)?),
        UserKind::Nextitnet => Box::new(NextItNet::new(scope, c)?),
        UserKind::Caser => Box::new(Caser::new(scope, c, users)?),
        UserKind::Mean => Box::new(MeanPooling),
        UserKind::Dssm => Box::new(Dssm::new(scope, c, users)?),
    })
}
