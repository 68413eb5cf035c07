//! Blocks of pre-trained encoders by their parameters' names.

/// The block that a name below a backbone belongs to, as (stage, block) and the beginning of such names: `encoder.layer.3.`,
/// `encoder.layers.3.`, `encoder.stages.1.layers.2.`, `encoder.layers.1.blocks.2.`. What stands between stages has block MAX.
pub fn block_of(name: &str) -> Option<((usize, usize), String)> {
    let parts: Vec<&str> = name.split('.').collect();
    let at = parts.iter().position(|p| ["layer", "layers", "stages"].contains(p))?;
    let first: usize = parts.get(at + 1)?.parse().ok()?;
    let inner = parts.get(at + 2).copied().unwrap_or_default();
    let upto = |n: usize| parts[..n].join(".") + ".";
    match (parts[at], inner, parts.get(at + 3).and_then(|p| p.parse::<usize>().ok())) {
        ("stages", "layers", Some(i)) | ("layers", "blocks", Some(i)) => Some(((first, i), upto(at + 4))),
        ("layers", "downsample", _) => Some(((first, usize::MAX), upto(at + 3))),
        ("stages", ..) => None,
        _ => Some(((first, 0), upto(at + 2))),
    }
}
