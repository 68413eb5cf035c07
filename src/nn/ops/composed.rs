//! Composed operations for devices other than the CPU: candle's differentiable operations as one node of the tape.

use crate::error::Result;
use crate::nn::params::Weight;
use crate::nn::tape::{Act, Pass};
use candle_core::{Tensor, Var};

/// Runs `f(activations, weights)` and records it as one node; its backward pass is candle's own over this small graph.
pub fn composed(
    pass: &Pass,
    acts: &[&Act],
    weights: &[&Weight],
    f: impl Fn(&[Tensor], &[Tensor]) -> Result<Tensor>,
) -> Result<Act> {
    let records = pass.records_with(acts.iter().any(|a| a.tracked()), weights.iter().copied());
    if !records {
        let a: Vec<Tensor> = acts.iter().map(|a| a.value().clone()).collect();
        let w: Vec<Tensor> = weights.iter().map(|w| w.value()).collect();
        return Ok(Act::constant(f(&a, &w)?));
    }
    let var = |t: Tensor, tracked: bool| -> Result<Tensor> {
        Ok(if tracked { Var::from_tensor(&t)?.into_inner() } else { t })
    };
    let a = acts.iter().map(|a| var(a.value().clone(), a.tracked())).collect::<Result<Vec<_>>>()?;
    let w = weights.iter().map(|w| var(w.value(), w.trains())).collect::<Result<Vec<_>>>()?;
    let out = f(&a, &w)?;
    let value = out.detach();
    let nodes: Vec<_> = acts.iter().map(|a| a.node()).collect();
    let weights: Vec<Weight> = weights.iter().map(|w| (*w).clone()).collect();
    Ok(pass.result(
        value,
        Some(move |grad: Tensor, grads: &mut crate::nn::Grads| {
            let store = (out * grad)?.sum_all()?.backward()?;
            for (node, a) in nodes.iter().zip(&a) {
                if let Some(g) = store.get(a) {
                    grads.add(*node, g.clone())?;
                }
            }
            for (weight, w) in weights.iter().zip(&w) {
                if let Some(g) = store.get(w).filter(|_| weight.trains()) {
                    weight.add_grad_tensor(g)?;
                }
            }
            grads.done(&weights)
        }),
    ))
}
