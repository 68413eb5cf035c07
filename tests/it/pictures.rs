//! Pictures: colours and sizes as Pillow has them (`tests/golden/pillow.py`), broken ones refused, databases of the MoRec
//! family read without executing anything (`tests/golden/lmdb_images.py`).

use morec::data::import::pickle;
use morec::picture::{Fault, Filter, Preprocess, Rgb, decode, encode_png, resize};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

struct Gold(Vec<u8>);

impl Gold {
    fn open() -> Self {
        Self(std::fs::read(golden("pillow.safetensors")).unwrap())
    }
    fn names(&self, prefix: &str) -> Vec<String> {
        let all = SafeTensors::deserialize(&self.0).unwrap();
        all.names().into_iter().filter_map(|n| Some(n.strip_prefix(prefix)?.to_string())).collect()
    }
    /// (height, width) and bytes.
    fn get(&self, name: &str) -> (usize, usize, Vec<u8>) {
        let all = SafeTensors::deserialize(&self.0).unwrap();
        let t = all.tensor(name).unwrap();
        (t.shape()[0], t.shape()[1], t.data().to_vec())
    }
}

fn file(name: &str) -> Result<Rgb, Fault> {
    decode(&std::fs::read(golden("pillow").join(name)).unwrap())
}

/// (mean, largest) difference in levels.
fn difference(a: &[u8], b: &[u8]) -> (f64, u8) {
    assert_eq!(a.len(), b.len());
    let each = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    (each.clone().map(f64::from).sum::<f64>() / a.len() as f64, each.max().unwrap())
}

#[test]
fn colours_are_pillows() {
    let gold = Gold::open();
    let names = gold.names("rgb/");
    assert!(names.len() >= 11, "{names:?}");
    for name in names {
        if name == "gray16.png" {
            // Pillow cuts 16 bits off at 255; here they are scaled.
            assert!(file(&name).unwrap().data.iter().any(|&v| v < 200));
            continue;
        }
        let white = format!("white/{name}");
        let upright = format!("upright/{name}");
        let known = gold.names("");
        let key = [white, upright].into_iter().find(|k| known.contains(k)).unwrap_or(format!("rgb/{name}"));
        let (h, w, want) = gold.get(&key);
        let got = file(&name).unwrap();
        assert_eq!((got.width, got.height), (w, h), "{key}");
        let (mean, most) = difference(&got.data, &want);
        // JPEG decoders differ in how they smooth colour; everything else is exact.
        let lossy = name.ends_with(".jpg") || name == "lossy.webp";
        assert!(if lossy { mean <= 1.0 } else { most == 0 }, "{key}: mean {mean}, most {most}");
    }
}

#[test]
fn what_is_no_picture_is_refused() {
    assert!(matches!(file("text.jpg"), Err(Fault::Unknown)));
    assert!(matches!(file("empty.png"), Err(Fault::Unknown)));
    assert!(matches!(file("bomb.png"), Err(Fault::TooLarge(60000, 60000))));
    let thin = encode_png(&Rgb::filled(1, 65, [9; 3]));
    assert!(matches!(decode(&thin), Err(Fault::TooThin(1, 65))));
    for cut in ["truncated.jpg", "cut.png"] {
        let e = file(cut).unwrap_err();
        assert!(matches!(e, Fault::Broken(_)), "{cut}: {e}");
    }
}

#[test]
fn sizes_are_pillows_to_the_bit() {
    let gold = Gold::open();
    let picture = file("rgb.png").unwrap();
    let names = gold.names("resize/");
    assert_eq!(names.len(), 6);
    for name in names {
        let (size, filter) = name.split_once('/').unwrap();
        let (w, h) = size.split_once('x').unwrap();
        let filter = if filter == "bilinear" { Filter::Bilinear } else { Filter::Bicubic };
        let got = resize(&picture, w.parse().unwrap(), h.parse().unwrap(), filter);
        let (h, w, want) = gold.get(&format!("resize/{name}"));
        assert_eq!((got.height, got.width), (h, w));
        assert_eq!(difference(&got.data, &want).1, 0, "{name}");
    }
    // Shorter side to 32, middle of 24 × 24.
    let json = r#"{"size": {"shortest_edge": 32}, "do_center_crop": true, "crop_size": {"height": 24, "width": 24}, "resample": 3}"#;
    let pre = Preprocess::parse(json).unwrap();
    assert_eq!(difference(&pre.apply(&picture).data, &gold.get("crop").2).1, 0);
}

#[test]
fn preprocessing_is_read_as_transformers_reads_it() {
    let gold = Gold::open();
    let json = r#"{"size": {"height": 24, "width": 24}, "resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
    let pre = Preprocess::parse(json).unwrap();
    let sized = pre.apply(&file("rgb.png").unwrap());
    let all = SafeTensors::deserialize(&gold.0).unwrap();
    let want: Vec<f32> = all
        .tensor("pixel_values")
        .unwrap()
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let table = pre.table();
    for (i, p) in sized.data.chunks_exact(3).enumerate() {
        for c in 0..3 {
            let (got, want) = (table[c][p[c] as usize], want[c * 24 * 24 + i]);
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }
    // CLIP's number is the shorter side; ConvNeXt cuts an eighth away.
    let clip = r#"{"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "do_center_crop": true, "crop_size": 224, "resample": 3}"#;
    let p = Preprocess::parse(clip).unwrap();
    assert_eq!((p.size, p.shortest, p.crop), (None, 224, Some((224, 224))));
    let next = r#"{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}"#;
    let p = Preprocess::parse(next).unwrap();
    assert_eq!((p.shortest, p.crop), (256, Some((224, 224))));
    for bad in ["{}", r#"{"size": {"longest_edge": 3}}"#, r#"{"size": 4, "resample": 0}"#, "["] {
        assert!(Preprocess::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn png_comes_back_whole() {
    let picture = file("rgb.png").unwrap();
    assert_eq!(decode(&encode_png(&picture)).unwrap(), picture);
}

#[test]
fn pickled_pictures_are_read_and_nothing_is_run() {
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden("lmdb_images.json")).unwrap()).unwrap();
    let mut read = 0;
    for entry in std::fs::read_dir(golden("lmdb")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".pkl") else { continue };
        let got = pickle::picture(&std::fs::read(&path).unwrap());
        if stem.starts_with("v_") && stem != "v_image_only" {
            let p = got.unwrap_or_else(|e| panic!("{name}: {e}"));
            let want = &json["values"][&name];
            let (w, h) = (want["width"].as_u64(), want["height"].as_u64());
            assert_eq!((w, h), (Some(p.width as u64), Some(p.height as u64)), "{name}");
            if want["id"] == "7" {
                let known: Vec<u8> = serde_json::from_value(json["lmdb"]["7"]["pixels"].clone()).unwrap();
                assert_eq!(p.data, known, "{name}");
            }
            read += 1;
        } else {
            assert!(got.is_err(), "{name} is no picture");
        }
    }
    assert!(read >= 6, "{read}");
}
