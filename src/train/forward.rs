//! Forward pass from a batch to its loss.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::item::{Features, ItemTable};
use crate::model::Recommender;
use crate::nn::{Act, Pass, ops};
use crate::objective::Objective;

/// Value of a loss; a non-finite one is an error.
pub(super) fn check_loss(loss: &Act) -> Result<f64> {
    let value = f64::from(loss.value().to_scalar::<f32>()?);
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::Numeric(format!("the loss is {value}; lower train.lr, or set train.clip")))
}

/// Loss of a batch: encodes its items and users.
pub fn forward(
    model: &Recommender,
    features: &Features,
    objective: &dyn Objective,
    batch: &Batch,
    pass: &Pass,
) -> Result<Act> {
    let items = model.item.encode(&ItemTable { ids: &batch.items, features }, pass)?;
    from_items(model, objective, batch, &items, pass)
}

/// Loss of a batch, given its item vectors (items × d).
pub(super) fn from_items(
    model: &Recommender,
    objective: &dyn Objective,
    batch: &Batch,
    items: &Act,
    pass: &Pass,
) -> Result<Act> {
    let inputs = ops::gather_or_fill(pass, items, batch.inputs.clone(), model.user.mask())?;
    let mut users = model.user.encode(&inputs, &batch.histories, pass)?;
    if let Some(rows) = &batch.rows {
        users = ops::gather(pass, &users, rows.clone())?;
    }
    objective.loss(&users, items, batch, pass)
}
