//! Finds the block of a pre-trained encoder that a parameter belongs to, from the parameter's name.

/// The block of a parameter below a backbone, as (stage, block), and the name prefix of that block: `encoder.layer.3.`,
/// `encoder.layers.3.`, `encoder.stages.1.layers.2.`, `encoder.layers.1.blocks.2.`. Parameters between two stages have
/// block `usize::MAX`.
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
