//! The student of an image teacher: a ViT's configuration and preprocessing.

use crate::distill::DistillConfig;
use crate::error::{Error, Result};
use crate::item::image::{ImageFolder, VitConfig};
use crate::picture::{Filter, Preprocess};
use serde_json::json;

/// The student's folder without weights, parsed and as text.
pub struct StudentFolder {
    /// Architecture of the student.
    pub config: VitConfig,
    /// Text of the student's `config.json`.
    pub config_json: String,
    /// Preprocessing of images: the teacher's, at the student's input size.
    pub preprocess: Preprocess,
    /// Text of the student's `preprocessor_config.json`.
    pub preprocess_json: String,
}

/// The folder of a ViT student with the sizes in `c`.
pub fn folder(teacher: &ImageFolder, c: &DistillConfig) -> Result<StudentFolder> {
    let config = json!({
        "architectures": ["ViTModel"], "model_type": "vit", "hidden_size": c.hidden, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "intermediate_size": c.intermediate, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02,
        "layer_norm_eps": 1e-6, "image_size": c.side, "patch_size": c.patch, "num_channels": 3, "qkv_bias": true,
        "torch_dtype": if c.full_precision { "float32" } else { "float16" },
    });
    let t = &teacher.preprocess;
    let pre = json!({
        "image_processor_type": "ViTImageProcessor", "do_resize": true, "size": {"height": c.side, "width": c.side},
        "resample": if t.filter == Filter::Bicubic { 3 } else { 2 }, "do_rescale": true, "rescale_factor": t.factor,
        "do_normalize": true, "image_mean": t.mean, "image_std": t.std,
    });
    let pretty = |v: &serde_json::Value| serde_json::to_string_pretty(v).unwrap_or_default() + "\n";
    let (config_json, preprocess_json) = (pretty(&config), pretty(&pre));
    let bad = |m: String| Error::Usage(format!("the student's shape: {m}"));
    let config = VitConfig::parse(&serde_json::from_str(&config_json).unwrap_or_default()).map_err(bad)?;
    let preprocess = Preprocess::parse(&preprocess_json).map_err(bad)?;
    Ok(StudentFolder { config, config_json, preprocess, preprocess_json })
}
