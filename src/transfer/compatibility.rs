//! Checks whether source parameters may be loaded. Settings that parameter shapes do not show have to equal the
//! source's where its parameters are loaded, because they change the function that the parameters were trained in.

use super::plan::Plan;
use crate::config::{AdapterConfig, AdapterMethod, Config, Fusion, ItemKind, Modality, UserKind};
use crate::error::{Error, Result};
use crate::item::{Encoders, Features};
use crate::nn::Origin;

/// Parts of a model that a plan loads from its source.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadedParts {
    /// Whether any parameter is loaded.
    pub any: bool,
    /// Whether any parameter of the item encoder is loaded.
    pub item: bool,
    /// Whether any parameter of the text encoder is loaded.
    pub text: bool,
    /// Whether any parameter of the image encoder is loaded.
    pub image: bool,
    /// Whether any parameter of the user encoder is loaded.
    pub user: bool,
    /// Whether nothing trains. The model is then the source's as a whole, even where a part has no parameters.
    pub zero_shot: bool,
    /// Whether some adapter parameter is not loaded.
    pub resets_adapters: bool,
}

impl LoadedParts {
    /// Parts loaded by a resolved plan.
    pub fn of(plan: &Plan) -> Self {
        let loads = |prefix: &str| plan.rows.iter().any(|r| r.origin == Origin::Source && r.name.starts_with(prefix));
        let modality = |m: Modality| loads(&m.parameter_prefix());
        Self {
            any: loads(""),
            item: loads("item_encoder."),
            text: modality(Modality::Text),
            image: modality(Modality::Image),
            user: loads("user_encoder."),
            zero_shot: plan.counts().0 == 0,
            resets_adapters: plan.rows.iter().any(|r| r.added && r.origin != Origin::Source),
        }
    }
}

/// A requirement: where `applies` holds, the setting `key` has to be `equal` in target and source.
struct Requirement {
    key: &'static str,
    applies: fn(&LoadedParts, &Config) -> bool,
    equal: fn(&Config, &Config) -> bool,
}

/// Whether the user encoder is self-attentive: its function depends on heads, positions and the position of its norms.
fn attentive(c: &Config) -> bool {
    matches!(c.user.kind, UserKind::Sasrec | UserKind::Bert4rec)
}

const REQUIREMENTS: &[Requirement] = &[
    Requirement { key: "user.kind", applies: |l, _| l.user || l.zero_shot, equal: |a, b| a.user.kind == b.user.kind },
    Requirement { key: "user.user_id", applies: |l, _| l.user, equal: |a, b| a.user.user_id == b.user.user_id },
    Requirement {
        key: "user.heads",
        applies: |l, c| l.user && attentive(c),
        equal: |a, b| a.user.heads == b.user.heads,
    },
    Requirement { key: "user.layers", applies: |l, _| l.user, equal: |a, b| a.user.layers == b.user.layers },
    Requirement {
        key: "user.max_len",
        applies: |l, c| l.user && attentive(c),
        equal: |a, b| a.user.max_len == b.user.max_len,
    },
    Requirement { key: "user.norm", applies: |l, c| l.user && attentive(c), equal: |a, b| a.user.norm == b.user.norm },
    Requirement {
        key: "user.dilations",
        applies: |l, c| l.user && c.user.kind == UserKind::Nextitnet,
        equal: |a, b| a.user.dilations == b.user.dilations,
    },
    Requirement {
        key: "objective.similarity",
        applies: |l, _| l.zero_shot,
        equal: |a, b| a.objective.similarity == b.objective.similarity,
    },
    Requirement { key: "item.pooling", applies: |l, _| l.text, equal: |a, b| a.item.pooling == b.item.pooling },
    Requirement {
        key: "item.activation",
        applies: |l, _| l.text || l.image,
        equal: |a, b| a.item.activation == b.item.activation,
    },
    Requirement {
        key: "item.max_tokens",
        applies: |l, _| l.text,
        equal: |a, b| a.item.max_tokens == b.item.max_tokens,
    },
    Requirement {
        key: "item.lower_case",
        applies: |l, _| l.text,
        equal: |a, b| a.item.lower_case == b.item.lower_case,
    },
    Requirement {
        key: "item.image.pooling",
        applies: |l, _| l.image,
        equal: |a, b| a.item.image.pooling == b.item.image.pooling,
    },
    Requirement {
        key: "item.image.side",
        applies: |l, _| l.image,
        equal: |a, b| a.item.image.side == b.item.image.side,
    },
    Requirement {
        key: "item.fusion",
        applies: |l, c| l.item && c.item.kind == ItemKind::Both,
        equal: |a, b| a.item.kind != b.item.kind || a.item.fusion == b.item.fusion,
    },
];

/// Refuses settings under which loaded parameters would compute another function than under `source`, the source
/// model's settings.
pub fn check_settings(config: &Config, source: &Config, loaded: &LoadedParts) -> Result<()> {
    let broken = REQUIREMENTS.iter().find(|r| (r.applies)(loaded, config) && !(r.equal)(config, source));
    if let Some(r) = broken {
        return Err(Error::config(
            r.key,
            "differs from the source run's, whose values are loaded; leave it out, or use the preset from-scratch",
        ));
    }
    let has_adapter = source.adapter.method != AdapterMethod::None;
    if has_adapter && loaded.any && (!same_adapter(config, source) || loaded.resets_adapters) {
        let m = format!(
            "the source has an adapter of its own ({}), which has to be loaded as it is: full, frozen, head and zero-shot do; \
             for another one make a model of lora or ia3 by `morec adapters merge`, or move from the base",
            source.adapter.method.name()
        );
        return Err(Error::config("adapter", m));
    }
    Ok(())
}

/// Whether two configurations have the same adapter; its learning rate may differ.
fn same_adapter(a: &Config, b: &Config) -> bool {
    a.adapter == AdapterConfig { lr: a.adapter.lr, ..b.adapter.clone() }
}

/// Refuses encoders whose input (tokens, preprocessed images) differs from that of the source's training. The preset
/// from-scratch loads nothing, so it allows any encoder.
pub fn check_input(config: &Config, encoders: &Encoders, source: &Encoders) -> Result<()> {
    if config.transfer.preset == "from-scratch" {
        return Ok(());
    }
    encoders
        .iter()
        .filter_map(|e| Some((e, source.get(e.modality())?)))
        .try_for_each(|(e, source)| e.check_same_input(source, &config.item))
}

/// Refuses a catalogue in which a modality named by the settings does not occur. (With items of kind text, texts are
/// checked when the data are prepared.)
pub fn check_catalogue(config: &Config, features: &Features) -> Result<()> {
    let kind = config.item.kind;
    let mixture = kind == ItemKind::Both && config.item.fusion == Fusion::Mixture;
    let key = if mixture { "item.image_share" } else { "item.kind" };
    let occurs = |m: Modality| (0..features.count).any(|i| features.has(m, i));
    for (m, word, other) in [(Modality::Image, "picture", "text"), (Modality::Text, "text", "image")] {
        let asked = kind.has(m) && (m == Modality::Image || kind == ItemKind::Both);
        if asked && !occurs(m) {
            let m = format!("no candidate is left with a {word}; use item.kind = \"{other}\", or another share");
            return Err(Error::config(key, m));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ImagePooling, NormPosition, ProjectionActivation, Similarity};
    use crate::nn::ops::Pooling;

    /// Key of the requirement that a changed setting violates, given the loaded parts; `None` where all hold.
    fn broken(loaded: LoadedParts, change: impl Fn(&mut Config)) -> Option<String> {
        let source = Config::default();
        let mut config = source.clone();
        change(&mut config);
        match check_settings(&config, &source, &loaded) {
            Ok(()) => None,
            Err(Error::Config { key, .. }) => Some(key),
            Err(e) => panic!("{e}"),
        }
    }
    const USER: LoadedParts = LoadedParts {
        any: true,
        user: true,
        item: false,
        text: false,
        image: false,
        zero_shot: false,
        resets_adapters: false,
    };
    const TEXT: LoadedParts = LoadedParts { user: false, item: true, text: true, ..USER };
    const IMAGE: LoadedParts = LoadedParts { text: false, image: true, ..TEXT };
    const NOTHING: LoadedParts = LoadedParts { any: false, user: false, ..USER };

    /// Asserts that the changed setting violates `key` where the part is loaded, and nothing where no part is loaded.
    fn row(key: &str, loaded: LoadedParts, change: impl Fn(&mut Config)) {
        assert_eq!(broken(loaded, &change).as_deref(), Some(key));
        assert_eq!(broken(NOTHING, &change), None, "{key}");
    }

    #[test]
    fn user_kind() {
        row("user.kind", USER, |c| c.user.kind = UserKind::Gru4rec);
        let zero_shot = LoadedParts { zero_shot: true, user: false, ..USER };
        row("user.kind", zero_shot, |c| c.user.kind = UserKind::Mean);
    }
    #[test]
    fn user_user_id() {
        row("user.user_id", USER, |c| c.user.user_id = true);
    }
    #[test]
    fn user_heads() {
        row("user.heads", USER, |c| c.user.heads = 4);
    }
    #[test]
    fn user_layers() {
        row("user.layers", USER, |c| c.user.layers = 3);
    }
    #[test]
    fn user_max_len() {
        row("user.max_len", USER, |c| c.user.max_len = 20);
    }
    #[test]
    fn user_norm() {
        row("user.norm", USER, |c| c.user.norm = NormPosition::Pre);
    }
    #[test]
    fn user_dilations() {
        let source = Config {
            user: crate::config::UserConfig { kind: UserKind::Nextitnet, ..Default::default() },
            ..Default::default()
        };
        let mut config = source.clone();
        config.user.dilations = vec![1, 2];
        assert!(check_settings(&config, &source, &USER).unwrap_err().to_string().contains("user.dilations"));
        assert_eq!(broken(USER, |c| c.user.dilations = vec![1, 2]), None, "sasrec has none");
    }
    #[test]
    fn objective_similarity() {
        let zero_shot = LoadedParts { zero_shot: true, ..USER };
        row("objective.similarity", zero_shot, |c| c.objective.similarity = Similarity::Cosine);
        assert_eq!(broken(USER, |c| c.objective.similarity = Similarity::Cosine), None);
    }
    #[test]
    fn item_pooling() {
        row("item.pooling", TEXT, |c| c.item.pooling = Pooling::Cls);
    }
    #[test]
    fn item_activation() {
        row("item.activation", TEXT, |c| c.item.activation = ProjectionActivation::None);
        row("item.activation", IMAGE, |c| c.item.activation = ProjectionActivation::None);
    }
    #[test]
    fn item_max_tokens() {
        row("item.max_tokens", TEXT, |c| c.item.max_tokens = 12);
    }
    #[test]
    fn item_lower_case() {
        row("item.lower_case", TEXT, |c| c.item.lower_case = false);
    }
    #[test]
    fn item_image_pooling() {
        row("item.image.pooling", IMAGE, |c| c.item.image.pooling = ImagePooling::Mean);
    }
    #[test]
    fn item_image_side() {
        row("item.image.side", IMAGE, |c| c.item.image.side = 96);
    }
    #[test]
    fn item_fusion() {
        let mut source = Config::default();
        source.item.kind = ItemKind::Both;
        let mut config = source.clone();
        config.item.fusion = Fusion::Gated;
        assert!(check_settings(&config, &source, &TEXT).unwrap_err().to_string().contains("item.fusion"));
        source.item.kind = ItemKind::Text;
        assert!(check_settings(&config, &source, &TEXT).is_ok(), "the source has no fusion");
    }
    #[test]
    fn adapter() {
        let mut source = Config::default();
        source.adapter.method = AdapterMethod::Lora;
        let mut config = source.clone();
        config.adapter.lr = 0.5;
        assert!(check_settings(&config, &source, &TEXT).is_ok());
        let reset = LoadedParts { resets_adapters: true, ..TEXT };
        assert!(check_settings(&config, &source, &reset).unwrap_err().to_string().contains("adapter"));
        config.adapter.rank = 2;
        assert!(check_settings(&config, &source, &TEXT).is_err());
        assert!(check_settings(&config, &source, &NOTHING).is_ok());
    }
    #[test]
    fn every_requirement_has_a_test() {
        let tested = include_str!("compatibility.rs");
        for r in REQUIREMENTS {
            assert!(tested.contains(&format!("fn {}() {{", r.key.replace('.', "_"))), "{}", r.key);
        }
    }
}
