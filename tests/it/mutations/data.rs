//! Data set folders, their cards, and pictures.

use super::damage::Format;
use super::folders::reseal;
use super::{DATA, Runner};
use crate::support::domain;
use morec::DataError;
use morec::data::images::{ImageSource, OnImage};
use morec::data::import::pickle;
use morec::data::import::pictures;
use morec::data::{Card, Dataset, DatasetParts, validate};
use morec::fsio::MANIFEST;
use morec::picture::{Rgb, decode, encode_png};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Pictures of the first items.
struct DrawnPictures;

impl ImageSource for DrawnPictures {
    fn each(&self, find: &dyn Fn(&str) -> Option<u32>, give: &mut OnImage) -> morec::Result<()> {
        for i in 0..6u8 {
            if let Some(item) = find(&format!("small-{i}")) {
                give(item, format!("{i}"), Ok(encode_png(&Rgb::filled(4, 5, [40 * i, 7, 200 - i]))))?;
            }
        }
        Ok(())
    }
}

fn folders(r: &mut Runner, tmp: &Path) {
    let dir = tmp.join("set");
    let mut data = domain("small", 12, 10);
    data.times = Some((0..data.seqs.values.len() as i64).map(|i| 1_000_000_000 + i).collect());
    data.items.attributes.insert("genre".into(), (0..10).map(|i| format!("g{i}")).collect());
    data.save(&dir, DatasetParts { images: Some((&DrawnPictures, 0.0)), ..Default::default() }).unwrap();
    let deep = || validate::validate(&dir).map(|_| ());
    r.parser("data set manifest.json", 120, DATA, Format::Json, &dir.join(MANIFEST), deep);
    let sealed = || {
        reseal(&dir);
        validate::validate(&dir)?;
        // Also by position, as the store of decoded pictures reads.
        let set = Dataset::open(&dir)?;
        set.images.as_ref().map_or(Ok(()), |i| i.each(2, 2, |_, _| Ok(())))
    };
    for (name, n) in
        [("items.parquet", 120), ("users.parquet", 60), ("interactions.parquet", 120), ("images.parquet", 80)]
    {
        r.parser(name, n, DATA, Format::Bytes, &dir.join(name), sealed);
    }
    let card = tmp.join("dataset.toml");
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/ml-100k/dataset.toml");
    std::fs::copy(ours, &card).unwrap();
    r.parser("dataset.toml", 80, DATA, Format::Text, &card, || Card::read(&card).map(|_| ()));
}

fn images(r: &mut Runner, tmp: &Path) {
    for (name, n) in
        [("rgb.png", 60), ("base420.jpg", 60), ("lossy.webp", 40), ("two.gif", 40), ("progressive.jpg", 40)]
    {
        let path = tmp.join(name);
        std::fs::copy(golden("pillow").join(name), &path).unwrap();
        let look = || {
            let fault = decode(&std::fs::read(&path).unwrap()).err();
            fault.map_or(Ok(()), |f| Err(DataError::new(&path, f.to_string()).into()))
        };
        r.parser(name, n, DATA, Format::Bytes, &path, look);
    }
    for (name, n) in [("v_proto2.pkl", 60), ("v_proto4.pkl", 60), ("v_numpy.pkl", 60)] {
        let path = tmp.join(name);
        std::fs::copy(golden("lmdb").join(name), &path).unwrap();
        let look = || {
            let fault = pickle::picture(&std::fs::read(&path).unwrap()).err();
            fault.map_or(Ok(()), |f| Err(DataError::new(&path, f).into()))
        };
        r.parser(name, n, DATA, Format::Bytes, &path, look);
    }
    // A column of pictures in a Parquet file, as the data set's own is one.
    let path = tmp.join("pictures.parquet");
    std::fs::copy(tmp.join("set/images.parquet"), &path).unwrap();
    let read = || {
        let source = pictures::open(&path, "item", "image")?;
        source.each(&|id| id.parse().ok(), &mut |_, _, _| Ok(()))
    };
    r.parser("pictures.parquet", 100, DATA, Format::Bytes, &path, read);
}

/// A database that is read through a memory map must not be read past its end.
#[cfg(feature = "lmdb")]
#[test]
fn a_database_that_was_cut_off_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("data.mdb");
    let sound = std::fs::read(golden("lmdb/data.mdb")).unwrap();
    let read = || {
        let source = pictures::open(tmp.path(), "", "")?;
        let mut n = 0;
        source.each(&|id| id.parse().ok(), &mut |_, _, _| {
            n += 1;
            Ok(())
        })?;
        Ok::<_, morec::Error>(n)
    };
    std::fs::write(&path, &sound).unwrap();
    assert!(read().unwrap() > 0);
    for cut in (0..sound.len()).step_by(256).chain([sound.len() - 1]) {
        std::fs::write(&path, &sound[..cut]).unwrap();
        let e = read().err().unwrap_or_else(|| panic!("{cut} of {} bytes are accepted", sound.len()));
        assert_eq!(e.exit_code(), 3, "{cut}: {e}");
    }
}

pub fn run(r: &mut Runner) {
    let tmp = tempfile::tempdir().unwrap();
    folders(r, tmp.path());
    images(r, tmp.path());
}
