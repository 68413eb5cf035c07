//! Line plots over epochs as SVG.

use super::Curve;
use std::fmt::Write;

const W: f64 = 680.0;
const H: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Colours of the curves, distinguishable with colour-vision deficiency (Okabe & Ito 2008).
pub const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999"];

/// Tick distance of 1, 2 or 5 times a power of ten that divides `span` into about five.
fn step(span: f64) -> f64 {
    let raw = (span / 5.0).max(1e-9);
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(raw)
}

/// Renders an SVG element with one line per curve, axes and direct labels; empty for curves without points.
pub fn lines(curves: &[Curve], x_label: &str, y_label: &str) -> String {
    let all = || curves.iter().flat_map(|c| &c.points).filter(|p| p.0.is_finite() && p.1.is_finite());
    let (x1, y1) = all().fold((f64::MIN, f64::MIN), |m, p| (m.0.max(p.0), m.1.max(p.1)));
    let x0 = all().fold(f64::MAX, |m, p| m.min(p.0));
    if all().next().is_none() {
        return String::new();
    }
    let y1 = if y1 > 0.0 { y1 * 1.05 } else { 1.0 };
    let x1 = if x1 > x0 { x1 } else { x0 + 1.0 };
    let px = |x: f64| LEFT + (x - x0) / (x1 - x0) * (W - LEFT - RIGHT);
    let py = |y: f64| H - BOTTOM - y / y1 * (H - TOP - BOTTOM);
    let mut s = format!(r#"<svg viewBox="0 0 {W} {H}" role="img" aria-label="{}">"#, html_escape::encode_text(y_label));
    let (dx, dy) = (step(x1 - x0).max(1.0), step(y1));
    let mut y = 0.0;
    while y <= y1 {
        let at = py(y);
        let _ = write!(
            s,
            r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            W - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            (y * 1000.0).round() / 1000.0
        );
        y += dy;
    }
    let mut x = x0;
    while x <= x1 + 1e-9 {
        let _ = write!(s, r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{x}</text>"#, px(x), H - BOTTOM + 18.0);
        x += dx;
    }
    let middle = LEFT + (W - LEFT - RIGHT) / 2.0;
    let _ = write!(
        s,
        r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text><text transform="translate(14 {:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
        H - 6.0,
        html_escape::encode_text(x_label),
        TOP + (H - TOP - BOTTOM) / 2.0,
        html_escape::encode_text(y_label)
    );
    // Labels are placed at the ends of their lines and moved apart where they would overlap.
    let mut ends: Vec<(usize, f64, f64)> = curves
        .iter()
        .enumerate()
        .filter_map(|(i, c)| c.points.iter().rfind(|p| p.1.is_finite()).map(|p| (i, px(p.0), py(p.1))))
        .collect();
    ends.sort_by(|a, b| a.2.total_cmp(&b.2));
    let mut lowest = f64::MIN;
    for (i, x, y) in ends {
        let at = (y + 4.0).max(lowest + 15.0);
        lowest = at;
        let colour = COLOURS[i % COLOURS.len()];
        let points: Vec<String> = curves[i]
            .points
            .iter()
            .filter(|p| p.0.is_finite() && p.1.is_finite())
            .map(|p| format!("{:.1},{:.1}", px(p.0), py(p.1)))
            .collect();
        let _ = write!(
            s,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/><circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/><text x="{:.1}" y="{at:.1}" fill="{colour}" style="fill:{colour}">{}</text>"#,
            points.join(" "),
            x + 8.0,
            html_escape::encode_text(&curves[i].name)
        );
    }
    s + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            [step(1.0), step(7.0), step(0.09), step(23.0)].map(|s| (s * 1e6).round() / 1e6),
            [0.2, 2.0, 0.02, 5.0]
        );
    }

    #[test]
    fn nothing_to_draw_draws_nothing() {
        assert_eq!(lines(&[Curve { name: "x".into(), points: vec![] }], "a", "b"), "");
        let one = lines(&[Curve { name: "a<b".into(), points: vec![(1.0, 2.0), (2.0, f64::NAN)] }], "epoch", "y");
        assert!(one.contains("a&lt;b") && !one.contains("NaN"), "{one}");
    }
}
