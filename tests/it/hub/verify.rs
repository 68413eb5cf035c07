//! Every way a model folder can be damaged is found and named.

use super::*;
use morec::Error;
use morec::hub::{CARD, inspect, verify};

/// A folder with these files, and what `verify` says of it.
fn told(files: &Files) -> String {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), files);
    match verify(root.path()) {
        Ok(_) => "sound".into(),
        Err(Error::Model { message, .. }) => message,
        Err(other) => panic!("{other}"),
    }
}

fn with(mut files: Files, name: &str, content: impl Into<Vec<u8>>) -> Files {
    files.insert(name.into(), content.into());
    files
}

#[test]
fn sound_folders() {
    assert_eq!(told(&tiny()), "sound");
    assert_eq!(told(&sharded()), "sound");
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &tiny());
    let report = verify(root.path()).unwrap();
    assert_eq!((report.tensors, report.parameters, report.model_type.as_deref()), (2, 128, Some("bert")));
    assert_eq!(report.dtypes["F32"], 2);
    assert_eq!(report.files.len(), 3);
}

#[test]
fn weights() {
    let whole = tiny()["model.safetensors"].clone();
    let cut = |n: usize| told(&with(tiny(), "model.safetensors", &whole[..n]));
    assert!(cut(0).contains("too short") && cut(7).contains("too short"));
    for n in [8, 20, whole.len() - 1] {
        assert!(cut(n).contains("not a whole safetensors file"), "{n}");
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(told(&with(tiny(), "model.safetensors", longer)).contains("not a whole"));

    let header = |json: &str, data: usize| {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.bytes());
        file.extend(vec![0; data]);
        told(&with(tiny(), "model.safetensors", file))
    };
    assert_eq!(header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4), "sound");
    for (json, data) in [
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5),
        (r#"{"a":{"dtype":"Q3","shape":[1],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#, 4),
        ("not json", 4),
    ] {
        assert!(header(json, data).contains("not a whole"), "{json}");
    }
    assert!(header(r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#, 4).contains("cannot be loaded"));
    assert!(header("{}", 0).contains("no tensors"));
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend([0; 8]);
    assert!(told(&with(tiny(), "model.safetensors", huge)).contains("not a whole"));
}

#[test]
fn shards_and_index() {
    let index =
        |map: &str| told(&with(sharded(), "model.safetensors.index.json", format!(r#"{{"weight_map":{map}}}"#)));
    let (one, two) = ("m-1-of-2.safetensors", "m-2-of-2.safetensors");
    assert!(index(&format!(r#"{{"a":"{two}","b":"{one}"}}"#)).contains("it is in"));
    assert!(index(&format!(r#"{{"a":"{one}","b":"{two}","c":"{two}"}}"#)).contains("does not have it"));
    assert!(index(&format!(r#"{{"a":"{one}"}}"#)).contains("not named by the index"));
    assert!(index(r#"{"a":"gone.safetensors"}"#).contains("missing gone.safetensors"));
    let mut lacking = sharded();
    lacking.remove(two);
    assert!(told(&lacking).contains("missing m-2-of-2"));
    let doubled = super::weights(&["a", "b"]);
    assert!(told(&with(sharded(), two, doubled)).contains("and so has"));
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &with(sharded(), "model.safetensors.index.json", "{"));
    assert!(verify(root.path()).unwrap_err().to_string().contains("not JSON"));
}

#[test]
fn config_and_tokenizer() {
    assert!(told(&with(tiny(), "config.json", "{")).contains("config.json: not JSON"));
    assert!(told(&with(tiny(), "config.json", [0xff, 0xfe])).contains("config.json: not JSON"));
    assert!(told(&with(tiny(), "config.json", "{}")).contains("model_type"));
    assert!(told(&with(tiny(), "tokenizer.json", "{}")).contains("tokenizer.json: does not parse"));
    let small = r#"{"model_type":"bert","vocab_size":2}"#;
    assert!(told(&with(tiny(), "config.json", small)).contains("token ids up to 2"));
    let both = with(with(tiny(), "config.json", "{}"), "tokenizer.json", "{}");
    assert!(
        told(&both).contains("model_type") && told(&both).contains("does not parse"),
        "all problems, not the first"
    );
}

#[test]
fn digests() {
    let files = tiny();
    let digest = |name: &str| morec::fsio::sha256_bytes(&files[name]);
    let card = format!(
        "name = \"t\"\nsummary = \"x\"\nmodality = \"text\"\narchitecture = \"bert\"\nlicence = \"MIT\"\norigin = \"x\"\n\
         [sha256]\n\"model.safetensors\" = \"{}\"\n",
        digest("model.safetensors")
    );
    let carded = with(files.clone(), CARD, card.clone());
    assert_eq!(told(&carded), "sound");
    let mut flipped = files["model.safetensors"].clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(told(&with(carded.clone(), "model.safetensors", flipped)).contains("the card says"));
    let lacking = with(files.clone(), CARD, card.clone() + &format!("\"merges.txt\" = \"{}\"\n", "0".repeat(64)));
    assert!(told(&lacking).contains("merges.txt: missing"));
    let other = with(files, CARD, card.replace("\"bert\"", "\"vit\""));
    assert!(told(&other).contains("model_type is `bert`"));
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &carded);
    let report = inspect(root.path(), None).unwrap();
    let checked = |name: &str| report.files.iter().find(|f| f.name == name).unwrap().checked;
    assert_eq!((checked("model.safetensors"), checked("config.json")), (Some("card"), None));
    assert!(inspect(&root.path().join("gone"), None).is_err());
}
