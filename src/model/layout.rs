//! Storage layouts of an encoder's adapters: low-rank updates and (IA)³ in PEFT's layout, bottlenecks in AdapterHub's.
//! The Python packages `peft` and `adapters` can read these files, and files of theirs can be read here. Adapters that
//! neither package supports (adapters of the user encoder, Compacter, prompts, side towers) are stored under this
//! crate's own names.
//!
//! `tests/golden/adapter_files.py` compares the layouts with both packages.

use crate::config::{AdapterConfig, AdapterMethod, Config, Modality};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// Name of an adapter in AdapterHub's files.
pub(super) const NAME: &str = "morec";

/// Storage layout of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Layout of the Python package `peft`.
    Peft,
    /// Layout of the Python package `adapters` (AdapterHub).
    Hub,
}

/// Architecture and size of an encoder, from its `config.json`.
#[derive(Debug, Clone)]
pub struct EncoderInfo {
    model_type: String,
    width: usize,
    blocks: usize,
}

impl EncoderInfo {
    /// Parses `config.json`; `None` if a field is missing.
    pub fn parse(json: &str) -> Option<Self> {
        let v: Value = serde_json::from_str(json).ok()?;
        Some(Self {
            model_type: v["model_type"].as_str()?.into(),
            width: v["hidden_size"].as_u64()? as usize,
            blocks: v["num_hidden_layers"].as_u64()? as usize,
        })
    }
    fn text(&self) -> bool {
        ["bert", "roberta", "xlm-roberta", "camembert"].contains(&self.model_type.as_str())
    }
    /// Class of the encoder in transformers, and the module that contains it.
    fn class(&self) -> (&'static str, &'static str) {
        match self.model_type.as_str() {
            "roberta" => ("RobertaModel", "roberta"),
            "xlm-roberta" => ("XLMRobertaModel", "xlm_roberta"),
            "camembert" => ("CamembertModel", "camembert"),
            "vit" => ("ViTModel", "vit"),
            _ => ("BertModel", "bert"),
        }
    }
}

impl Layout {
    /// The layout in which an adapter of this encoder can be stored; `None` if only this crate's own names support it.
    pub fn of(method: AdapterMethod, kind: &EncoderInfo) -> Option<Self> {
        let vit = kind.model_type == "vit";
        match method {
            AdapterMethod::Lora if kind.text() || vit => Some(Self::Peft),
            AdapterMethod::Ia3 if kind.text() => Some(Self::Peft),
            AdapterMethod::Houlsby | AdapterMethod::Pfeiffer if kind.text() || vit => Some(Self::Hub),
            // AdapterHub's parallel adapter of a ViT reads the input of the norm; this crate's reads the sub-layer's
            // input.
            AdapterMethod::Parallel if kind.text() => Some(Self::Hub),
            _ => None,
        }
    }
    /// Name of the layout's tensor file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Peft => "adapter_model.safetensors",
            Self::Hub => "adapter.safetensors",
        }
    }
    /// Converts a name of an encoder's tensor (below `model.`) to the layout's name; `None` if it is not part of an
    /// adapter.
    pub fn to_external(self, kind: &EncoderInfo, ours: &str) -> Option<String> {
        match self {
            Self::Peft => {
                ["lora_A.", "lora_B.", "ia3_l"].iter().any(|p| ours.contains(p)).then(|| {
                    // ViT has shorter names in transformers 5 than in its checkpoints, and PEFT uses the shorter ones.
                    let name = match kind.model_type.as_str() {
                        "vit" => ours
                            .replacen("encoder.layer.", "layers.", 1)
                            .replacen("attention.attention.query", "attention.q_proj", 1)
                            .replacen("attention.attention.value", "attention.v_proj", 1),
                        _ => ours.into(),
                    };
                    format!("base_model.model.{name}")
                })
            }
            Self::Hub => {
                let (block, rest) = ours.split_once(".adapter_")?;
                let (place, part) = rest.split_once('.')?;
                let at = match (place, kind.text()) {
                    ("attention", true) => "attention.output",
                    ("output", true) => "output",
                    ("attention", false) => "attention_adapters",
                    ("output", false) => "output.output_adapters",
                    _ => return None,
                };
                let part = part.replacen("down.", "adapter_down.0.", 1).replacen("up.", "adapter_up.", 1);
                Some(format!("{block}.{at}.adapters.{NAME}.{part}"))
            }
        }
    }
    /// Converts a tensor's name in the layout to this crate's name; `name` is the adapter's name in the file.
    pub fn to_internal(self, kind: &EncoderInfo, theirs: &str, name: &str) -> Option<String> {
        match self {
            Self::Peft => {
                let inner = theirs.strip_prefix("base_model.model.")?;
                Some(match kind.model_type.as_str() {
                    "vit" if inner.starts_with("layers.") => inner
                        .replacen("layers.", "encoder.layer.", 1)
                        .replacen("attention.q_proj", "attention.attention.query", 1)
                        .replacen("attention.v_proj", "attention.attention.value", 1),
                    _ => inner.into(),
                })
            }
            Self::Hub => {
                // With or without the architecture's prefix.
                let bare = ["bert.", "roberta.", "vit."].iter().find_map(|p| theirs.strip_prefix(p)).unwrap_or(theirs);
                let (at, part) = bare.split_once(&format!(".adapters.{name}."))?;
                let place = |end: &str, ours: &str| at.strip_suffix(end).map(|b| format!("{b}.{ours}"));
                let stem = if kind.text() {
                    place(".attention.output", "adapter_attention").or_else(|| place(".output", "adapter_output"))
                } else {
                    place(".attention_adapters", "adapter_attention")
                        .or_else(|| place(".output.output_adapters", "adapter_output"))
                }?;
                let part = part.replacen("adapter_down.0.", "down.", 1).replacen("adapter_up.", "up.", 1);
                Some(format!("{stem}.{part}"))
            }
        }
    }
    /// Writes a folder with `adapter_config.json`, and the tensor file by calling `tensors`; returns the names of both
    /// files.
    pub(super) fn write(
        self,
        dir: &Path,
        config: &Config,
        (modality, kind): (Modality, &EncoderInfo),
        tensors: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<[&'static str; 2]> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let encoder = config.item.encoder(modality).model;
        let called = Path::new(encoder).file_name().map_or(encoder.to_string(), |n| n.to_string_lossy().into_owned());
        let names = ["adapter_config.json", self.file()];
        crate::fsio::write_json(&dir.join(names[0]), &self.config(&config.adapter, kind, &called))?;
        tensors(&dir.join(names[1]))?;
        Ok(names)
    }
    /// Content of `adapter_config.json`; `base` is the name or path of its encoder.
    pub fn config(self, c: &AdapterConfig, kind: &EncoderInfo, base: &str) -> Value {
        let first = c.encoder().map_or(0, |a| a.first(kind.blocks));
        let (class, module) = kind.class();
        match self {
            Self::Peft => {
                let mut v = json!({
                    "auto_mapping": {"base_model_class": class,
                        "parent_library": format!("transformers.models.{module}.modeling_{module}")},
                    "base_model_name_or_path": base,
                    "fan_in_fan_out": false,
                    "inference_mode": true,
                    "modules_to_save": null,
                    "task_type": null,
                });
                let more = if c.method == AdapterMethod::Lora {
                    let (q, v) = if kind.text() { ("query", "value") } else { ("q_proj", "v_proj") };
                    json!({"peft_type": "LORA", "r": c.rank, "lora_alpha": c.alpha, "lora_dropout": 0.0, "bias": "none",
                        "target_modules": [q, v]})
                } else {
                    // A list of names would also match the attention's output, whose name has the same ending.
                    let layers = (first..kind.blocks).map(|i| i.to_string()).collect::<Vec<_>>().join("|");
                    let outer = format!(".*\\.layer\\.({layers})\\.output\\.dense");
                    json!({"peft_type": "IA3", "feedforward_modules": outer,
                        "target_modules": format!(".*\\.layer\\.({layers})\\.attention\\.self\\.(key|value)|{outer}")})
                };
                if let (Value::Object(v), Value::Object(more)) = (&mut v, more) {
                    v.extend(more);
                    if c.method == AdapterMethod::Lora && first > 0 {
                        let which: Vec<usize> = (first..kind.blocks).collect();
                        v.insert("layers_to_transform".into(), json!(which));
                        v.insert("layers_pattern".into(), json!(if kind.text() { "layer" } else { "layers" }));
                    }
                }
                v
            }
            Self::Hub => json!({
                "config": {
                    "mh_adapter": c.method != AdapterMethod::Pfeiffer,
                    "output_adapter": true,
                    "is_parallel": c.method == AdapterMethod::Parallel,
                    "reduction_factor": reduction(kind.width, c.width),
                    "non_linearity": "relu",
                    "original_ln_before": false,
                    "original_ln_after": true,
                    "residual_before_ln": true,
                    "adapter_residual_before_ln": false,
                    "ln_before": false,
                    "ln_after": false,
                    "scaling": 1.0,
                    "init_weights": "bert",
                    "inv_adapter": null,
                    "inv_adapter_reduction_factor": null,
                    "cross_adapter": false,
                    "use_gating": false,
                    "phm_layer": false,
                    "dropout": 0.0,
                    "leave_out": (0..first).collect::<Vec<_>>(),
                },
                "hidden_size": kind.width,
                "model_class": class,
                "model_name": base,
                "model_type": kind.model_type,
                "name": NAME,
            }),
        }
    }
}

/// AdapterHub stores no width, only a factor with width = `int(hidden // factor)`: the quotient if it is an integer,
/// otherwise a factor that gives the width in spite of rounding.
fn reduction(hidden: usize, width: usize) -> Value {
    if hidden.is_multiple_of(width) { json!(hidden / width) } else { json!(hidden as f64 / (width as f64 + 0.5)) }
}

/// Whether a value of `adapter_config.json` switches its setting off.
fn off(v: &Value) -> bool {
    let empty = v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(serde_json::Map::is_empty);
    empty || v.is_null() || v == false || v == "none"
}

/// Settings of PEFT that do not change what A, B and the (IA)³ vectors mean, or that the caller reads.
const PEFT_SETTINGS: [&str; 20] = [
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "feedforward_modules",
    "inference_mode",
    "init_ia3_weights",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// Refuses every setting of a PEFT adapter that is not understood, by name: a new one may change what A and B mean.
fn check_peft(v: &Value) -> std::result::Result<(), String> {
    let all = v.as_object().ok_or("is no JSON object")?;
    if let Some((key, value)) = all.iter().find(|(k, v)| !PEFT_SETTINGS.contains(&k.as_str()) && !off(v)) {
        return Err(format!("{key} = {value}: not supported"));
    }
    // PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA subtract a part of the base's weights when the adapter is made.
    let init = &v["init_lora_weights"];
    let plain = init.is_null() || init.is_boolean() || ["gaussian", "eva", "orthogonal"].iter().any(|i| init == i);
    if !plain {
        let m = format!(
            "init_lora_weights = {init}: it changes the base's weights; convert the adapter to plain LoRA with \
             PEFT (`save_pretrained(…, path_initial_model_for_weight_conversion=…)`)"
        );
        return Err(m);
    }
    Ok(())
}

/// Reads `adapter_config.json` of a folder that `peft` or `adapters` wrote: layout, settings and name of the adapter.
pub fn read_external(dir: &Path, kind: &EncoderInfo) -> Result<(Layout, AdapterConfig, String)> {
    let path = dir.join("adapter_config.json");
    let bad = |m: String| Error::model(&path, m);
    let v: Value =
        serde_json::from_str(&crate::fsio::read_model_text(&path)?).map_err(|e| bad(format!("not JSON: {e}")))?;
    let mut c = AdapterConfig { user_width: 0, ..Default::default() };
    let blocks = |first: usize| if first == 0 { 0 } else { kind.blocks.saturating_sub(first) };
    if let Some(peft) = v["peft_type"].as_str() {
        c.method = match peft {
            "LORA" => AdapterMethod::Lora,
            "IA3" => AdapterMethod::Ia3,
            other => return Err(bad(format!("peft_type {other} is not known here (LORA, IA3 are)"))),
        };
        check_peft(&v).map_err(bad)?;
        if c.method == AdapterMethod::Lora {
            c.rank = v["r"].as_u64().unwrap_or(8) as usize;
            c.alpha = v["lora_alpha"].as_f64().unwrap_or(8.0);
            if v["use_rslora"] == true {
                // rsLoRA scales by α/√r where LoRA scales by α/r.
                c.alpha *= (c.rank as f64).sqrt();
            }
        }
        if let Some(which) = v["layers_to_transform"].as_array() {
            let first = which.iter().filter_map(Value::as_u64).min().unwrap_or(0) as usize;
            if which.len() != kind.blocks - first.min(kind.blocks) {
                return Err(bad("layers_to_transform: only the last n layers are supported".into()));
            }
            c.layers = blocks(first);
        }
        return Ok((Layout::Peft, c, String::new()));
    }
    let inner = &v["config"];
    let flag = |key: &str, default: bool| inner[key].as_bool().unwrap_or(default);
    c.method = match (flag("mh_adapter", false), flag("output_adapter", true), flag("is_parallel", false)) {
        (true, true, false) => AdapterMethod::Houlsby,
        (false, true, false) => AdapterMethod::Pfeiffer,
        (true, true, true) if kind.text() => AdapterMethod::Parallel,
        _ => {
            let m = "neither a PEFT adapter nor bottlenecks placed as Houlsby's, Pfeiffer's or beside both sub-layers";
            return Err(bad(m.into()));
        }
    };
    let wanted = [
        ("original_ln_before", false),
        ("original_ln_after", true),
        ("residual_before_ln", true),
        ("adapter_residual_before_ln", false),
        ("ln_before", false),
        ("ln_after", false),
        ("phm_layer", false),
        ("cross_adapter", false),
        ("use_gating", false),
    ];
    if let Some((key, value)) = wanted.into_iter().find(|(k, w)| flag(k, *w) != *w) {
        return Err(bad(format!("config.{key} = {}: this function is not known here, where it is {value}", !value)));
    }
    if inner["non_linearity"].as_str().is_none_or(|n| n.to_lowercase() != "relu") {
        return Err(bad(format!("non_linearity {}: only relu is known here", inner["non_linearity"])));
    }
    if inner["scaling"].as_f64().is_some_and(|s| s != 1.0) || inner["scaling"].is_string() {
        return Err(bad(format!("scaling {}: only 1.0 is known here", inner["scaling"])));
    }
    let factor = inner["reduction_factor"].as_f64().filter(|f| *f > 0.0);
    c.width = (kind.width as f64 / factor.ok_or_else(|| bad("no reduction_factor".into()))?).floor() as usize;
    let out = inner["leave_out"].as_array().map_or(0, Vec::len);
    c.layers = blocks(out);
    let name = v["name"].as_str().ok_or_else(|| bad("no name".into()))?;
    Ok((Layout::Hub, c, name.into()))
}
