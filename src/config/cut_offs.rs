//! Fits the cut-offs K of metrics to the size of the catalogue: HR@20 among 12 items is always 1.

use super::{Config, EvalConfig, TrainConfig, metric};
use crate::error::{Error, Result};

impl EvalConfig {
    /// Leaves out default cut-offs that are larger than a catalogue of `items` items; cut-offs given by the user (see
    /// [`EvalConfig::ks_given`]) are not changed. K = 1 remains where all are too large. Returns a note on what was
    /// left out.
    ///
    /// # Errors
    /// [`Error::Config`] when a cut-off given by the user is larger than the catalogue.
    pub fn fit_catalogue(&mut self, items: usize) -> Result<Option<String>> {
        let (mut fitting, large): (Vec<usize>, Vec<usize>) = self.ks.iter().partition(|k| **k <= items);
        let Some(widest) = large.iter().max() else { return Ok(None) };
        if fitting.is_empty() {
            fitting.push(1);
        }
        if self.ks_given || self.ks != Self::default().ks {
            let m = format!("{widest} is larger than the catalogue of {items} items; use -s 'eval.ks={fitting:?}'");
            return Err(Error::config("eval.ks", m));
        }
        let left_out = large.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        self.ks = fitting;
        Ok(Some(format!("eval.ks: {left_out} left out: the catalogue has {items} items")))
    }
}

impl Config {
    /// As [`EvalConfig::fit_catalogue`]; the default validation metric is changed to the largest cut-off that remains.
    ///
    /// # Errors
    /// As [`EvalConfig::fit_catalogue`], and when the cut-off of a metric given by the user is left out.
    pub fn fit_catalogue(&mut self, items: usize) -> Result<Option<String>> {
        let Some(mut note) = self.eval.fit_catalogue(items)? else { return Ok(None) };
        let TrainConfig { metric: name, metric_given, .. } = &mut self.train;
        if let Err(e) = metric(name, &self.eval.ks) {
            let default = TrainConfig::default().metric;
            if *metric_given || *name != default {
                return Err(e);
            }
            let (kind, _) = default.split_once('@').unwrap_or((&default, ""));
            *name = format!("{kind}@{}", self.eval.ks.iter().max().unwrap_or(&1));
            note += &format!("; train.metric is {name}");
        }
        Ok(Some(note))
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn set(o: &[&str]) -> Config {
        load(&Config::default(), &[] as &[&str], &o.iter().map(|s| s.to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn defaults_give_way_and_what_was_asked_for_does_not() {
        let mut c = set(&[]);
        assert_eq!((c.fit_catalogue(20).unwrap(), c.eval.ks.as_slice()), (None, &[5, 10, 20][..]));
        assert!(c.fit_catalogue(12).unwrap().unwrap().contains("20 left out"));
        assert_eq!((c.eval.ks.as_slice(), c.train.metric.as_str()), (&[5, 10][..], "ndcg@10"));
        for (items, ks, metric) in [(7, 5, "ndcg@5"), (3, 1, "ndcg@1")] {
            let mut c = set(&[]);
            assert!(c.fit_catalogue(items).unwrap().unwrap().contains(metric));
            assert_eq!((c.eval.ks, c.train.metric.as_str()), (vec![ks], metric));
        }
        for asked in ["eval.ks=[5,10,20]", "eval.ks=[5, 50]"] {
            let e = set(&[asked]).fit_catalogue(12).unwrap_err().to_string();
            assert!(
                e.contains("eval.ks") && e.contains("catalogue of 12 items") && e.contains("-s 'eval.ks=[5"),
                "{e}"
            );
        }
        // The cut-off of a given metric is left out: an error even if the metric is spelled like the default.
        for asked in ["train.metric=ndcg@10", "train.metric=hr@10"] {
            let e = set(&[asked]).fit_catalogue(7).unwrap_err().to_string();
            assert!(e.contains("train.metric"), "{e}");
            set(&[asked]).fit_catalogue(12).unwrap();
        }
    }

    #[test]
    fn what_an_earlier_layer_asked_for_is_not_asked_for_again() {
        let before = set(&["eval.ks=[5,10,20]"]);
        assert!(before.eval.ks_given);
        let now = load(&before, &[] as &[&str], &["seed=1".into()]).unwrap();
        assert!(!now.eval.ks_given && !now.train.metric_given);
    }
}
