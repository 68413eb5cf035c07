//! `model.toml` and `distillation.json` of a student: settings, data sources and quality.

use super::task::{Student, TaskInfo};
use super::{DistillConfig, DistillReport};
use crate::error::{Error, Result};
use crate::{fsio, hub};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes both files to `dir`, which holds the student's other files. `quality` are figures beside the common ones.
pub fn write(
    dir: &Path,
    info: &TaskInfo,
    student: &Student,
    report: &DistillReport,
    quality: BTreeMap<String, String>,
) -> Result<()> {
    let config = &info.config;
    let teacher = Path::new(&config.teacher).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let from: Vec<&str> = info.sources.iter().map(|(n, _)| n.as_str()).collect();
    let mut sha256 = BTreeMap::new();
    for file in student.card_files.iter().copied().chain(["model.safetensors"]) {
        sha256.insert(file.to_string(), fsio::sha256_file(&dir.join(file))?);
    }
    let (million, megabytes) = (report.parameters as f64 / 1e6, report.bytes as f64 / 1e6);
    let mut all = common_quality(info, report);
    all.extend(quality);
    let card = hub::Card {
        name: config.name.clone(),
        summary: format!("{}; {million:.1} million parameters, {megabytes:.1} MB", student.summary),
        modality: info.modality.into(),
        architecture: student.architecture.clone(),
        licence: "Apache-2.0".into(),
        origin: format!(
            "distilled with `morec distill` from {teacher} on the {} of {}",
            info.samples_name,
            from.join(", ")
        ),
        hub: None,
        preprocessing: student.preprocessing.clone(),
        quality: all,
        sha256,
    };
    let text = toml::to_string(&card).map_err(|e| Error::model(dir, e.to_string()))?;
    fsio::write_bytes(&dir.join("model.toml"), text.as_bytes())?;
    // Paths of this machine are left out.
    let report = DistillReport { dir: config.name.clone(), ..report.clone() };
    let config = DistillConfig { teacher, ..config.clone() };
    fsio::write_json(
        &dir.join("distillation.json"),
        &json!({ "config": config, "teacher_sha256": info.teacher_sha256, "corpus": info.sources, "report": report }),
    )
}

/// Recall and cosine by description; empty with fewer than two held-out samples.
fn common_quality(info: &TaskInfo, report: &DistillReport) -> BTreeMap<String, String> {
    if report.held_out < 2 {
        return BTreeMap::new();
    }
    let recall = format!(
        "{} on {} held-out {}; the teacher cut to this width: {}",
        percent(report.recall_at_10),
        report.held_out,
        info.samples_name,
        percent(report.recall_at_10_limit)
    );
    let mut all = BTreeMap::from([
        ("recall@10 of the teacher's neighbours".to_string(), recall),
        ("mean cosine to the teacher cut to this width".to_string(), format!("{:.4}", report.cosine)),
    ]);
    for (name, recall) in &report.others {
        all.insert(format!("recall@10, {name} beside it"), percent(*recall));
    }
    all
}

/// A share as `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
