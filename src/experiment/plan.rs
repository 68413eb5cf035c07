//! Blueprint and transfer plan of a model, from a configuration and a source model.

use super::prepare::encoder_folder;
use crate::config::Config;
use crate::error::Result;
use crate::item::Encoders;
use crate::model::{Blueprint, ModelFolder, TableSizes};
use crate::nn::Spec;
use crate::transfer::{self, LoadedParts, Plan};
use crate::user::UserEncoderBuilder;

/// Blueprint of a configuration. With a source, the architecture, tokenizer and preprocessing of its encoders are taken
/// over; the pre-trained encoder folders are opened only where some parameter is initialised from them.
pub(super) fn blueprint(
    config: &Config,
    source: Option<&ModelFolder>,
    counts: TableSizes,
    user_encoder: Option<&UserEncoderBuilder>,
) -> Result<Blueprint> {
    let wants_pretrained = matches!(config.transfer.preset.as_str(), "" | "from-scratch")
        || config.transfer.rules.iter().any(|r| r.action.contains("pretrained"));
    let mut encoders = Encoders::default();
    for &modality in config.item.kind.modalities() {
        let kept = source.and_then(|s| s.encoders.get(modality)).filter(|_| !wants_pretrained);
        let folder = match kept {
            Some(folder) => Some(folder.clone()),
            None => encoder_folder(config, modality)?,
        };
        folder.into_iter().for_each(|f| encoders.insert(f));
    }
    if let Some(source) = source {
        transfer::check_input(config, &encoders, &source.encoders)?;
    }
    let user_encoder = user_encoder.or(source.and_then(|s| s.user_encoder.as_ref())).cloned();
    Ok(Blueprint { config: config.clone(), counts, encoders, base: None, user_encoder })
}

/// Resolves the transfer plan of a configuration without building the model.
pub fn plan_of(config: &Config, source: Option<&ModelFolder>, counts: TableSizes) -> Result<Plan> {
    let specs = blueprint(config, source, counts, None)?.declare()?;
    resolve(config, &specs, source)
}

/// Resolves the transfer plan for these parameters: the rules of `train_layers`, then those of `transfer.rules`.
pub(super) fn resolve(config: &Config, specs: &[Spec], source: Option<&ModelFolder>) -> Result<Plan> {
    let mut rules = vec![];
    if matches!(config.transfer.preset.as_str(), "" | "from-scratch" | "full") {
        for &modality in config.item.kind.modalities() {
            let settings = config.item.encoder(modality);
            if let Ok(n) = usize::try_from(settings.train_layers) {
                rules.extend(transfer::depth_rules(modality, n, specs, &settings.key("train_layers"))?);
            }
        }
    }
    rules.extend_from_slice(&config.transfer.rules);
    let plan = Plan::resolve(specs, source.map(|s| &s.weights), &config.transfer.preset, &rules)?;
    if let Some(s) = source {
        transfer::check_settings(config, &s.config, &LoadedParts::of(&plan))?;
    }
    Ok(plan)
}
