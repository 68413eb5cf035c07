//! Cards: the tracked ones parse, and they lead to the right files.

use super::server::{Faults, Server};
use super::*;
use morec::Error;
use morec::hub::{CARD, Card, Origin, cards, pull, resolve};

fn card(name: &str, rest: &str) -> Vec<u8> {
    format!(
        "name = \"{name}\"\nsummary = \"x\"\nmodality = \"text\"\narchitecture = \"bert\"\nlicence = \"MIT\"\norigin = \"here\"\n{rest}"
    )
    .into()
}

#[test]
fn every_tracked_card_parses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut count = 0;
    for entry in std::fs::read_dir(&root).unwrap().flatten().filter(|e| e.path().join(CARD).exists()) {
        let card = Card::read(&entry.path()).unwrap().unwrap();
        assert_eq!(card.name, entry.file_name().to_str().unwrap());
        assert!(card.preprocessing.max_tokens.is_some() || card.preprocessing.image_size.is_some(), "{}", card.name);
        count += 1;
    }
    let here = cards(&root).unwrap();
    assert_eq!(here.len(), count);
    // The program carries each of them, so that a name means the same in any folder.
    assert_eq!(cards(Path::new("no such folder")).unwrap(), here);
}

#[test]
fn malformed_cards_are_named() {
    let root = tempfile::tempdir().unwrap();
    let mut tokens = card("x", "[preprocessing]\npooling = \"max\"");
    for (content, hint) in [
        (b"name = 1".to_vec(), "not a model card"),
        (card("x", "colour = 1"), "colour"),
        (std::mem::take(&mut tokens), "pooling"),
        (card("x", "[hub]\nid = \"../x\""), "hub.id"),
        (card("x", "[hub]\nid = \"a/x\"\nrevision = \"../y\""), "hub.revision"),
        (card("x", "[sha256]\n\"a\" = \"12\""), "hex"),
        (card("x", &format!("[sha256]\n\"../a\" = \"{}\"", "0".repeat(64))), "plain file name"),
    ] {
        std::fs::write(root.path().join(CARD), content).unwrap();
        let message = Card::read(root.path()).unwrap_err().to_string();
        assert!(message.contains(hint) && message.contains(CARD), "{message}");
    }
    write(&root.path().join("models/y"), &Files::from([(CARD.into(), card("x", ""))]));
    assert!(cards(&root.path().join("models")).unwrap_err().to_string().contains("unlike its folder"));
}

#[test]
fn order_of_places() {
    let root = tempfile::tempdir().unwrap();
    let options = HubOptions { offline: true, ..options(root.path()) };
    let project = options.models.join("tiny");
    write(&project, &tiny());
    let found = resolve("tiny", &options).unwrap();
    assert_eq!((found.origin, found.dir), (Origin::Project, project.clone()));
    let found = resolve(project.to_str().unwrap(), &options).unwrap();
    assert_eq!(found.origin, Origin::Folder);
    for bad in ["../tiny", "a/b/c", "x y", "tiny/.."] {
        assert!(matches!(resolve(bad, &options), Err(Error::Usage(_))), "{bad}");
    }
    let empty = root.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let message = resolve(empty.to_str().unwrap(), &options).unwrap_err().to_string();
    assert!(message.contains("missing config.json"), "{message}");
}

#[test]
fn a_card_alone_leads_to_the_hub_and_guards_what_comes() {
    let root = tempfile::tempdir().unwrap();
    let mut options = options(root.path());
    let server = Server::new(tiny(), Faults::default());
    options.endpoint = Some(server.url.clone());
    let digest = morec::fsio::sha256_bytes(&tiny()["model.safetensors"]);
    let with = |digest: &str| {
        let rest = format!("[hub]\nid = \"acme/tiny\"\n[sha256]\n\"model.safetensors\" = \"{digest}\"");
        Files::from([(CARD.into(), card("mine", &rest))])
    };
    write(&options.models.join("mine"), &with(&"0".repeat(64)));
    let message = pull("mine", &options).unwrap_err().to_string();
    assert!(message.contains("the model's card says"), "{message}");
    assert!(matches!(pull("acme/tiny", &options), Err(Error::Hub(_))), "the card guards its repository by any name");

    write(&options.models.join("mine"), &with(&digest));
    let found = resolve("mine", &options).unwrap();
    assert!(matches!(found.origin, Origin::Hub { .. }));
    assert_eq!(found.card.unwrap().name, "mine");
    let path = options.models.join("mine");
    assert!(matches!(resolve(path.to_str().unwrap(), &options).unwrap().origin, Origin::Cache { .. }));
    std::fs::write(path.join("config.json"), "{}").unwrap();
    assert!(resolve("mine", &options).unwrap().dir.starts_with(&options.cache), "a config alone is not the model");
    std::fs::remove_file(path.join("config.json")).unwrap();
    assert_eq!(tree(&options.models).len(), 1, "nothing is written outside the cache");

    write(&options.models.join("mine"), &with(&"0".repeat(64)));
    assert!(matches!(resolve("mine", &options), Err(Error::Model { .. })), "the cached file is checked too");
}

#[test]
fn a_mirror_without_digests_is_checked_against_the_card() {
    let root = tempfile::tempdir().unwrap();
    let mut options = options(root.path());
    let server = Server::new(tiny(), Faults { bare_listing: true, ..Faults::default() });
    options.endpoint = Some(server.url.clone());
    let rest = format!("[hub]\nid = \"acme/tiny\"\n[sha256]\n\"config.json\" = \"{}\"", "1".repeat(64));
    write(&options.models.join("mine"), &Files::from([(CARD.into(), card("mine", &rest))]));
    assert!(pull("mine", &options).unwrap_err().to_string().contains("config.json: the download has SHA-256"));
    assert!(tree(&options.cache).is_empty());
}

#[test]
fn a_card_without_a_hub_says_where_its_files_come_from() {
    let root = tempfile::tempdir().unwrap();
    let options = options(root.path());
    write(&options.models.join("mine"), &Files::from([(CARD.into(), card("mine", ""))]));
    let message = resolve("mine", &options).unwrap_err().to_string();
    assert!(message.contains("come from here"), "{message}");
    write(&options.models.join("mine"), &tiny());
    assert_eq!(resolve("mine", &options).unwrap().origin, Origin::Project);
    let rest = format!("[sha256]\n\"config.json\" = \"{}\"", "1".repeat(64));
    write(&options.models.join("mine"), &Files::from([(CARD.into(), card("mine", &rest))]));
    assert!(resolve("mine", &options).unwrap_err().to_string().contains("the model's card says"));
}

#[test]
fn the_embedded_encoder_needs_no_project_no_cache_and_no_hub() {
    let root = tempfile::tempdir().unwrap();
    let options = HubOptions { offline: true, ..options(root.path()) };
    let found = resolve("title-mini", &options).unwrap();
    assert_eq!(found.origin, Origin::Embedded);
    let pulled = pull("title-mini", &options).unwrap();
    assert!(pulled.downloaded.is_empty() && pulled.folder.dir == found.dir, "{:?}", pulled.notes);
    assert!(found.dir.starts_with(&options.cache) && found.card.unwrap().sha256.len() >= 3);
    let stamp = |p: &Path| std::fs::metadata(p.join("model.safetensors")).unwrap().modified().unwrap();
    let before = stamp(&found.dir);
    // The second time nothing is written; what is damaged is made again.
    assert_eq!(stamp(&resolve("title-mini", &options).unwrap().dir), before);
    std::fs::write(found.dir.join("config.json"), "{").unwrap();
    let again = resolve("title-mini", &options).unwrap();
    assert!(morec::item::text::TextFolder::open(&again.dir, true).is_ok());
    // A folder of that name in the project comes first.
    write(&options.models.join("title-mini"), &tiny());
    assert_eq!(resolve("title-mini", &options).unwrap().origin, Origin::Project);
}
