//! Decoding of JPEG, PNG, WebP and GIF to [`Rgb`], within limits: too large dimensions in a header are refused before
//! memory is allocated.
//!
//! Colour: grey, palette, CMYK and 16-bit images become 8-bit RGB. Transparent pixels are composited over white,
//! because their colour values are arbitrary. EXIF orientation is applied. The first frame of an animation is used.

use super::Rgb;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Maximum number of pixels of an image (Pillow's limit).
pub const MAX_PIXELS: u64 = 89_478_485;

/// Maximum aspect ratio: resizing by the shorter side makes thinner images too large for memory.
pub const MAX_ASPECT: u32 = 64;

/// Why an image cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The format is none of JPEG, PNG, WebP and GIF.
    Unknown,
    /// The header's width and height exceed `MAX_PIXELS`.
    TooLarge(u32, u32),
    /// One side is more than `MAX_ASPECT` times as long as the other.
    TooThin(u32, u32),
    /// The data are damaged or truncated.
    Broken(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => write!(f, "is not a JPEG, PNG, WebP or GIF picture"),
            Self::TooLarge(w, h) => write!(f, "claims {w}×{h} pixels, more than {MAX_PIXELS} in all"),
            Self::TooThin(w, h) => write!(f, "is {w}×{h}, more than {MAX_ASPECT} times as long as wide"),
            Self::Broken(m) => write!(f, "is broken: {m}"),
        }
    }
}

fn known(bytes: &[u8]) -> Result<ImageFormat, Fault> {
    let format = image::guess_format(bytes).map_err(|_| Fault::Unknown)?;
    let fine = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif].contains(&format);
    if fine { Ok(format) } else { Err(Fault::Unknown) }
}

/// Whether the scans of a JPEG reach their end marker; decoders fill missing pixels with grey without an error. Markers
/// are parsed from the start, so that bytes after the end marker (motion photos, camera trailers) and end markers
/// inside a segment (thumbnails) are ignored.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const SOS: u8 = 0xda;
    const EOI: u8 = 0xd9;
    let (mut at, mut scans) = (2, 0);
    loop {
        // Fill bytes (0xff) may precede a marker.
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let (Some(0xff), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else { return false };
        match marker {
            EOI => return scans > 0,
            // Markers without a length: TEM and restarts.
            0x01 | 0xd0..=0xd7 => at += 2,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
        if marker == SOS {
            scans += 1;
            // Entropy-coded data contain 0xff 0x00 (an escaped byte) and restart markers; any other marker ends them.
            let rest = bytes.get(at..).unwrap_or(&[]);
            let end = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0x00 | 0xd0..=0xd7 | 0xff));
            let Some(end) = end else { return false };
            at += end;
        }
    }
}

/// Decodes an image.
///
/// # Errors
/// A [`Fault`].
pub fn decode(bytes: &[u8]) -> Result<Rgb, Fault> {
    let format = known(bytes)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(Fault::Broken("it ends before its last pixel".into()));
    }
    let broken = |e: image::ImageError| Fault::Broken(e.to_string());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The size is checked below, so that the message can contain it.
    reader.no_limits();
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (w, h) = decoder.dimensions();
    if u64::from(w) * u64::from(h) > MAX_PIXELS {
        return Err(Fault::TooLarge(w, h));
    }
    if w == 0 || h == 0 {
        return Err(Fault::Broken("it has no pixel".into()));
    }
    if w.max(h) / w.min(h) > MAX_ASPECT {
        return Err(Fault::TooThin(w, h));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(16 * MAX_PIXELS);
    decoder.set_limits(limits).map_err(broken)?;
    let orientation = decoder.orientation().map_err(broken)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let data = match picture {
        DynamicImage::ImageRgb8(p) => p.into_raw(),
        p if p.color().has_alpha() => over_white(&p.into_rgba8().into_raw()),
        p => p.into_rgb8().into_raw(),
    };
    Ok(Rgb { width, height, data })
}

fn over_white(rgba: &[u8]) -> Vec<u8> {
    let mix = |c: u8, a: u8| {
        let (c, a) = (u32::from(c), u32::from(a));
        ((c * a + 255 * (255 - a) + 127) / 255) as u8
    };
    rgba.chunks_exact(4).flat_map(|p| [mix(p[0], p[3]), mix(p[1], p[3]), mix(p[2], p[3])]).collect()
}

/// Checks that an image can be decoded.
///
/// # Errors
/// A [`Fault`].
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    decode(bytes).map(|_| ())
}

/// Encodes an image as PNG (lossless).
pub fn encode_png(picture: &Rgb) -> Vec<u8> {
    use image::codecs::png::{CompressionType, FilterType, PngEncoder};
    use image::{ExtendedColorType, ImageEncoder};
    let mut out = vec![];
    let encoder = PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Adaptive);
    let (w, h) = (picture.width as u32, picture.height as u32);
    encoder.write_image(&picture.data, w, h, ExtendedColorType::Rgb8).expect("a whole picture, into memory");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_ends_at_its_end_mark_whatever_lies_behind_it() {
        for name in ["base420.jpg", "progressive.jpg", "cmyk.jpg"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pillow").join(name);
            let whole = std::fs::read(path).unwrap();
            let behind = |more: &[u8]| decode(&[&whole[..], more].concat()).map(|p| p.data);
            let plain = behind(&[]).unwrap();
            // A trailer with the start of another scan, as in motion photos.
            assert_eq!(behind(&[0, 1, 0xff, 0xda, 7, 7, 7]).unwrap(), plain, "{name}");
            // Truncated files are errors, also if a segment contains an end marker of its own.
            for cut in [whole.len() - 2, whole.len() / 2] {
                assert!(decode(&whole[..cut]).is_err(), "{name} cut at {cut}");
            }
        }
    }
}
