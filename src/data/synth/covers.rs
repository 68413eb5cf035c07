//! Cover images of synthetic items: theme, style and kind of the title, as colours and shapes.
//!
//! The theme sets the hue and a mirrored figure of 5 × 5 fields; the style sets the background pattern; the kind sets
//! the shape of the frame. Variation in hue, position, size and noise is drawn per item, so that covers of one theme
//! are similar but not equal.

use super::process::Item;
use crate::picture::Rgb;
use crate::rng::Stream;

/// Width and height of a cover in pixels.
pub const SIDE: usize = 96;

/// RGB values from hue (in turns), saturation and lightness.
fn colour(hue: f64, saturation: f64, lightness: f64) -> [f64; 3] {
    let channel = |n: f64| {
        let k = (n + 12.0 * hue.rem_euclid(1.0)) % 12.0;
        lightness - saturation * lightness.min(1.0 - lightness) * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0)
    };
    [channel(0.0), channel(8.0), channel(4.0)]
}

/// Share of the second colour at (x, y) of the background, for each style.
fn pattern(style: u8, x: f64, y: f64) -> f64 {
    let on = |v: f64| if v.rem_euclid(1.0) < 0.5 { 1.0 } else { 0.0 };
    match style {
        0 => on((x + y) * 5.0),
        1 => 0.0,
        2 => y,
        3 => {
            if (x * 6.0).rem_euclid(1.0).hypot((y * 6.0).rem_euclid(1.0) - 0.5) < 0.35 {
                1.0
            } else {
                0.0
            }
        }
        4 => on(x * 4.0) * on(y * 4.0) + (1.0 - on(x * 4.0)) * (1.0 - on(y * 4.0)),
        5 => ((x - 0.5).hypot(y - 0.5) * 1.8).min(1.0),
        6 => on(x * 8.0),
        _ => on(y * 7.0 + (x * 12.0).sin() * 0.2),
    }
}

/// Whether (x, y), each from −1 to 1, is inside the frame of a kind: polygons or stars with 3 to 8 corners.
fn inside(kind: u8, x: f64, y: f64) -> bool {
    let corners = 3 + usize::from(kind) % 6;
    let starred = kind >= 6;
    let (r, turn) = (x.hypot(y), y.atan2(x) / std::f64::consts::TAU * corners as f64);
    let wave = (turn.rem_euclid(1.0) - 0.5).abs() * 2.0;
    let edge = if starred { 0.55 + 0.45 * wave } else { 0.8 + 0.2 * wave };
    r < edge
}

/// Fields of a theme's figure: 5 rows of 3 random fields, mirrored to 5.
fn figure(theme: u8) -> [[bool; 5]; 5] {
    let mut s = Stream::new(u64::from(theme), "synth/figure");
    let mut f = [[false; 5]; 5];
    for row in &mut f {
        for x in 0..3 {
            row[x] = s.uniform() < 0.55;
            row[4 - x] = row[x];
        }
    }
    f
}

/// Draws the cover of an item.
pub fn cover(item: Item, s: &mut Stream) -> Rgb {
    let hue = f64::from(item.theme) * 0.618_034 + 0.03 * s.normal();
    let dark = item.style == 5;
    let ground = colour(hue, 0.55, if dark { 0.18 } else { 0.62 });
    let second = colour(hue + 0.08, 0.5, if dark { 0.3 } else { 0.78 });
    let frame = colour(hue + 0.5, 0.35, if dark { 0.35 } else { 0.92 });
    let ink = colour(hue + 0.02, 0.7, if dark { 0.75 } else { 0.25 });
    let f = figure(item.theme);
    let (cx, cy) = (0.5 + 0.06 * s.normal(), 0.5 + 0.06 * s.normal());
    let size = 0.40 * (1.0 + 0.12 * s.normal()).clamp(0.7, 1.3);
    let shift = s.uniform();
    let mut data = Vec::with_capacity(3 * SIDE * SIDE);
    for py in 0..SIDE {
        for px in 0..SIDE {
            let (x, y) = ((px as f64 + 0.5) / SIDE as f64, (py as f64 + 0.5) / SIDE as f64);
            let (u, v) = ((x - cx) / size, (y - cy) / size);
            let field = |t: f64| ((t / 0.55 + 1.0) * 2.5).floor();
            let (fx, fy) = (field(u), field(v));
            let marked = (0.0..5.0).contains(&fx) && (0.0..5.0).contains(&fy) && f[fy as usize][fx as usize];
            let c = if inside(item.kind, u, v) {
                if marked { ink } else { frame }
            } else {
                let p = pattern(item.style, x + shift, y + shift);
                std::array::from_fn(|i| ground[i] * (1.0 - p) + second[i] * p)
            };
            // Coarse noise, so that the file stays small.
            let grain = if (px / 4 * 31 + py / 4 * 17) % 5 == 0 { 0.02 * s.normal() } else { 0.0 };
            data.extend(c.map(|v| ((v + grain).clamp(0.0, 1.0) * 255.0) as u8));
        }
    }
    Rgb { width: SIDE, height: SIDE, data }
}
