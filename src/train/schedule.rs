//! Learning-rate schedule.

use crate::config::{Schedule, TrainConfig};

/// Factor on all learning rates at 0-based optimiser step `step` of `total`.
pub fn factor(config: &TrainConfig, step: u64, total: u64) -> f64 {
    let warm = config.warmup_steps as u64;
    if step < warm {
        return (step + 1) as f64 / warm as f64;
    }
    match config.schedule {
        Schedule::Constant => 1.0,
        Schedule::Cosine => {
            let done = (step - warm) as f64 / total.saturating_sub(warm).max(1) as f64;
            0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_cosine() {
        let c = TrainConfig { warmup_steps: 4, schedule: Schedule::Cosine, ..Default::default() };
        assert_eq!([factor(&c, 0, 104), factor(&c, 3, 104), factor(&c, 4, 104)], [0.25, 1.0, 1.0]);
        assert!((factor(&c, 54, 104) - 0.5).abs() < 1e-12 && factor(&c, 104, 104) < 1e-12);
    }
}
