//! Transfers: layout, what is fetched when, and every way a hub can let us down.

use super::server::{COMMIT, Faults, Server};
use super::*;
use morec::Error;
use morec::hub::{Origin, Token, pull, resolve};

/// A server with one repository, and options that point to it.
fn setup(files: Files, faults: Faults) -> (tempfile::TempDir, Server, HubOptions) {
    let root = tempfile::tempdir().unwrap();
    let server = Server::new(files, faults);
    let mut options = options(root.path());
    options.endpoint = Some(server.url.clone());
    (root, server, options)
}

fn hub_error<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Hub(message)) => message,
        Err(other) => panic!("not a hub error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

/// Nothing but partial files, and no revision, may be left after a failure.
fn assert_nothing_complete(options: &HubOptions, weights: &str) {
    for path in tree(&options.cache) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name != weights && name != "main", "{}", path.display());
    }
    let offline = HubOptions { offline: true, ..options.clone() };
    assert!(matches!(resolve("acme/tiny", &offline), Err(Error::Hub(_))));
}

#[test]
fn layout_is_the_shared_one_and_the_second_pull_downloads_nothing() {
    let (_root, server, options) = setup(tiny(), Faults::default());
    let pulled = pull("acme/tiny", &options).unwrap();
    assert_eq!(pulled.downloaded, ["config.json", "tokenizer.json", "model.safetensors"]);
    assert_eq!(server.downloads(), ["config.json", "tokenizer.json", "model.safetensors"]);

    let repo = options.cache.join("models--acme--tiny");
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let snapshot = repo.join("snapshots").join(COMMIT);
    assert_eq!(pulled.folder.dir, snapshot);
    let content = tiny();
    let digest = morec::fsio::sha256_bytes(&content["model.safetensors"]);
    assert_eq!(std::fs::read(repo.join("blobs").join(&digest)).unwrap(), content["model.safetensors"]);
    if cfg!(unix) {
        let link = std::fs::read_link(snapshot.join("model.safetensors")).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(&digest));
    }
    assert!(tree(&options.cache).iter().all(|p| !p.to_string_lossy().contains("part")));
    // The crate that other programs use finds it too.
    let theirs = hf_hub::Cache::new(options.cache.clone()).model("acme/tiny".into()).get("config.json");
    assert_eq!(theirs.unwrap(), snapshot.join("config.json"));

    server.set(|_, _| ());
    assert!(pull("acme/tiny", &options).unwrap().downloaded.is_empty());
    assert_eq!(server.requests().len(), 1, "the listing only");
    server.set(|_, _| ());
    let found = resolve("acme/tiny", &options).unwrap();
    assert_eq!(found.origin, Origin::Cache { id: "acme/tiny".into(), commit: COMMIT.into() });
    assert!(found.tokenizer().is_ok());
    assert!(pull(&format!("acme/tiny@{COMMIT}"), &options).unwrap().downloaded.is_empty());
    assert!(server.requests().is_empty(), "what is here needs no request");
}

#[test]
fn a_moved_branch_is_fetched_and_unchanged_files_are_kept() {
    let (_root, server, options) = setup(tiny(), Faults::default());
    pull("acme/tiny", &options).unwrap();
    let commit = "f".repeat(40);
    server.set(|files, faults| {
        files.insert("config.json".into(), br#"{"model_type":"bert","vocab_size":3,"x":1}"#.to_vec());
        faults.commit = Some(commit.clone());
    });
    assert_eq!(pull("acme/tiny", &options).unwrap().downloaded, ["config.json"]);
    assert!(resolve("acme/tiny", &options).unwrap().dir.ends_with(&commit));
    let old = resolve(&format!("acme/tiny@{COMMIT}"), &options).unwrap();
    assert!(old.dir.ends_with(COMMIT));
}

#[test]
fn shards_follow_their_index() {
    let (_root, server, options) = setup(sharded(), Faults::default());
    let pulled = pull("acme/tiny", &options).unwrap();
    assert_eq!(pulled.folder.weights.len(), 2);
    assert!(server.downloads().contains(&"m-2-of-2.safetensors".to_string()));
    assert_eq!(morec::hub::verify(&pulled.folder.dir).unwrap().tensors, 2);

    // One shard missing: the snapshot does not count as whole, and only that shard is fetched again.
    std::fs::remove_file(pulled.folder.dir.join("m-2-of-2.safetensors")).unwrap();
    let blobs = options.cache.join("models--acme--tiny/blobs");
    std::fs::remove_file(blobs.join(morec::fsio::sha256_bytes(&sharded()["m-2-of-2.safetensors"]))).unwrap();
    let offline = HubOptions { offline: true, ..options.clone() };
    assert!(hub_error(resolve("acme/tiny", &offline)).contains("missing m-2-of-2.safetensors"));
    server.set(|_, _| ());
    resolve("acme/tiny", &options).unwrap();
    assert_eq!(server.downloads(), ["m-2-of-2.safetensors"]);
}

#[test]
fn an_index_cannot_name_files_elsewhere() {
    let mut files = sharded();
    let evil = r#"{"weight_map":{"a":"../../../../evil.safetensors"}}"#;
    files.insert("model.safetensors.index.json".into(), evil.into());
    let (root, _server, options) = setup(files, Faults::default());
    assert!(matches!(pull("acme/tiny", &options), Err(Error::Model { .. })));
    assert!(tree(root.path()).iter().all(|p| !p.ends_with("evil.safetensors")));
}

#[test]
fn the_token_is_sent_to_the_hub_and_not_to_where_it_redirects() {
    let faults = Faults { token: Some("hf_abc".into()), ..Faults::default() };
    let (_root, server, mut options) = setup(tiny(), faults);
    assert!(hub_error(pull("acme/tiny", &options)).contains("HF_TOKEN"));
    options.token = Some(Token::new("hf_wrong").unwrap());
    let message = hub_error(pull("acme/tiny", &options));
    assert!(message.contains("401") && !message.contains("hf_wrong"), "{message}");
    options.token = Some(Token::new("hf_abc").unwrap());

    let store = Server::new(tiny(), Faults::default());
    server.set(|_, faults| faults.redirect = Some(store.url.clone()));
    pull("acme/tiny", &options).unwrap();
    assert!(server.requests().iter().all(|r| r.authorization.as_deref() == Some("Bearer hf_abc")));
    assert_eq!(store.requests().len(), 3);
    assert!(store.requests().iter().all(|r| r.authorization.is_none()));
}

#[test]
fn a_relative_redirect_keeps_the_token() {
    let faults = Faults { token: Some("t".into()), redirect: Some(String::new()), ..Faults::default() };
    let (_root, _server, mut options) = setup(tiny(), faults);
    options.token = Some(Token::new("t").unwrap());
    assert_eq!(pull("acme/tiny", &options).unwrap().downloaded.len(), 3);
}

#[test]
fn statuses_say_what_to_do() {
    for (status, hint) in
        [(401, "HF_TOKEN"), (403, "gated"), (404, "spelling"), (429, "wait"), (500, "later"), (418, "hub?")]
    {
        let (_root, _server, options) = setup(tiny(), Faults { listing_status: Some(status), ..Faults::default() });
        let message = hub_error(pull("acme/tiny", &options));
        assert!(message.contains(hint) && message.contains(&status.to_string()), "{message}");
        assert!(tree(&options.cache).is_empty());
        let (_root, _server, options) = setup(tiny(), Faults { file_status: Some(status), ..Faults::default() });
        let message = hub_error(pull("acme/tiny", &options));
        assert!(message.contains("config.json") && message.contains(&status.to_string()), "{message}");
        assert_nothing_complete(&options, "model.safetensors");
    }
}

#[test]
fn a_cut_transfer_is_resumed_where_it_stopped() {
    let cut = Some(("model.safetensors".to_string(), 100, 1));
    let (_root, server, options) = setup(tiny(), Faults { cut: cut.clone(), ..Faults::default() });
    let message = hub_error(pull("acme/tiny", &options));
    assert!(message.contains("broke off") && message.contains("goes on from there"), "{message}");
    assert_nothing_complete(&options, "model.safetensors");
    server.set(|_, _| ());
    assert_eq!(pull("acme/tiny", &options).unwrap().downloaded, ["model.safetensors"]);
    assert_eq!(server.requests()[1].range.as_deref(), Some("bytes=100-"));

    // The same within one pull, and against a server that ignores ranges.
    for ignore_ranges in [false, true] {
        let (_root, server, mut options) =
            setup(tiny(), Faults { cut: cut.clone(), ignore_ranges, ..Faults::default() });
        options.retries = 1;
        let pulled = pull("acme/tiny", &options).unwrap();
        assert_eq!(std::fs::read(&pulled.folder.weights[0]).unwrap(), tiny()["model.safetensors"]);
        assert_eq!(server.downloads().len(), 4);
    }
}

#[test]
fn damage_on_the_way_is_caught() {
    let (_root, server, options) =
        setup(tiny(), Faults { corrupt: Some("model.safetensors".into()), ..Faults::default() });
    assert!(hub_error(pull("acme/tiny", &options)).contains("SHA-256"));
    assert_nothing_complete(&options, "model.safetensors");
    assert!(tree(&options.cache).iter().all(|p| !p.to_string_lossy().contains("part")));
    server.set(|_, faults| faults.corrupt = None);
    pull("acme/tiny", &options).unwrap();

    // A partial file whose first bytes are wrong is found out as well.
    let (_root, server, options) =
        setup(tiny(), Faults { cut: Some(("model.safetensors".into(), 50, 1)), ..Faults::default() });
    hub_error(pull("acme/tiny", &options));
    let part = tree(&options.cache).into_iter().find(|p| p.to_string_lossy().ends_with("part")).unwrap();
    std::fs::write(&part, [7u8; 50]).unwrap();
    server.set(|_, _| ());
    assert!(hub_error(pull("acme/tiny", &options)).contains("SHA-256"));
    assert!(!part.exists());
}

#[test]
fn a_mirror_without_digests_will_do() {
    let (_root, server, options) = setup(tiny(), Faults { bare_listing: true, ..Faults::default() });
    let pulled = pull("acme/tiny", &options).unwrap();
    assert_eq!(pulled.downloaded.len(), 3);
    let report = morec::hub::verify(&pulled.folder.dir).unwrap();
    assert!(report.files.iter().all(|f| f.checked == Some("hub")), "blobs are named by their own digest");
    assert!(pull("acme/tiny", &options).unwrap().downloaded.is_empty());

    server.set(|_, faults| {
        faults.commit = Some("e".repeat(40));
        faults.cut = Some(("model.safetensors".into(), 10, 1));
    });
    assert!(hub_error(pull("acme/tiny", &options)).contains("broke off"));
    assert!(tree(&options.cache).iter().all(|p| !p.to_string_lossy().contains("part")));
    assert!(resolve("acme/tiny", &options).unwrap().dir.ends_with(COMMIT), "the old snapshot still stands");
}

#[test]
fn what_the_server_calls_a_commit_is_checked() {
    let (root, _server, options) = setup(tiny(), Faults { commit: Some("../../../evil".into()), ..Faults::default() });
    assert!(hub_error(pull("acme/tiny", &options)).contains("not a commit"));
    assert!(tree(root.path()).is_empty());
}

#[test]
fn a_silent_hub_times_out() {
    let (_root, _server, mut options) = setup(tiny(), Faults { hang: true, ..Faults::default() });
    options.timeout = Duration::from_millis(200);
    let start = std::time::Instant::now();
    assert!(hub_error(pull("acme/tiny", &options)).contains("cannot reach"));
    assert!(start.elapsed() < Duration::from_secs(5));

    let (_root, _server, mut options) = setup(tiny(), Faults { stall: true, ..Faults::default() });
    options.timeout = Duration::from_millis(200);
    let start = std::time::Instant::now();
    assert!(hub_error(pull("acme/tiny", &options)).contains("broke off"));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_nothing_complete(&options, "config.json");
}

#[test]
fn a_damaged_cache_is_repaired() {
    let (_root, server, options) = setup(tiny(), Faults::default());
    let weights = pull("acme/tiny", &options).unwrap().folder.weights.remove(0);
    for name in ["acme/tiny".to_string(), format!("acme/tiny@{COMMIT}")] {
        let mut content = std::fs::read(&weights).unwrap();
        *content.last_mut().unwrap() ^= 1;
        std::fs::write(&weights, content).unwrap();
        server.set(|_, _| ());
        assert_eq!(pull(&name, &options).unwrap().downloaded, ["model.safetensors"]);
        assert_eq!(std::fs::read(&weights).unwrap(), tiny()["model.safetensors"]);
    }
}

#[test]
fn pickled_weights_are_refused_with_the_way_out() {
    let mut files = tiny();
    files.remove("model.safetensors");
    files.insert("pytorch_model.bin".into(), vec![0]);
    let (root, server, options) = setup(files.clone(), Faults::default());
    assert!(hub_error(pull("acme/tiny", &options)).contains("safe_serialization"));
    assert!(server.downloads().is_empty());
    let dir = root.path().join("local");
    write(&dir, &files);
    let message = resolve(dir.to_str().unwrap(), &options).unwrap_err().to_string();
    assert!(message.contains("safe_serialization"), "{message}");
}

#[test]
fn a_vocabulary_alone_is_no_tokenizer() {
    let mut files = tiny();
    files.remove("tokenizer.json");
    files.insert("vocab.txt".into(), b"[UNK]\nfilm".to_vec());
    let (_root, _server, options) = setup(files, Faults::default());
    let pulled = pull("acme/tiny", &options).unwrap();
    assert!(pulled.notes[0].contains("use_fast"));
    let message = pulled.folder.tokenizer().unwrap_err().to_string();
    assert!(message.contains("vocab.txt") && message.contains("use_fast"), "{message}");
}

#[test]
fn offline_makes_no_request() {
    let (_root, server, mut options) = setup(tiny(), Faults::default());
    options.offline = true;
    let message = hub_error(resolve("acme/tiny", &options));
    assert!(
        message.contains("HF_HUB_OFFLINE") && message.contains("config.json") && message.contains("pull acme/tiny")
    );
    assert!(hub_error(pull("acme/tiny", &options)).contains("HF_HUB_OFFLINE"));
    assert!(server.requests().is_empty());
    options.offline = false;
    pull("acme/tiny", &options).unwrap();
    options.offline = true;
    server.set(|_, _| ());
    resolve("acme/tiny", &options).unwrap();
    assert!(server.requests().is_empty());
}

#[test]
fn two_pulls_at_once() {
    let (_root, server, options) = setup(sharded(), Faults::default());
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| pull("acme/tiny", &options).unwrap())).collect();
        all.into_iter().for_each(|t| assert_eq!(t.join().unwrap().folder.weights.len(), 2));
    });
    assert_eq!(server.downloads().len(), sharded().len() - 1, "each file once");
}

#[test]
fn what_cannot_be_read_is_not_kept() {
    let files = |name: &str, content: &[u8], mut from: Files| {
        from.insert(name.into(), content.to_vec());
        from
    };
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n";
    let cases = [
        ("model.safetensors", files("model.safetensors", b"{}", tiny()), "too short"),
        ("model.safetensors", files("model.safetensors", lfs, tiny()), "not a whole"),
        ("config.json", files("config.json", b"<html>", tiny()), "not JSON"),
        ("tokenizer.json", files("tokenizer.json", b"", tiny()), "not JSON"),
        ("m-2-of-2.safetensors", files("m-2-of-2.safetensors", b"{}", sharded()), "too short"),
    ];
    for (name, broken, hint) in cases {
        for bare_listing in [false, true] {
            let (_root, server, options) = setup(broken.clone(), Faults { bare_listing, ..Faults::default() });
            for asked in ["acme/tiny".to_string(), format!("acme/tiny@{COMMIT}")] {
                let message = hub_error(pull(&asked, &options));
                assert!(message.contains(name) && message.contains(hint) && message.contains("damaged"), "{message}");
                assert_nothing_complete(&options, name);
                let digest = morec::fsio::sha256_bytes(&broken[name]);
                assert!(tree(&options.cache).iter().all(|p| !p.ends_with(&digest)), "no blob either");
                let offline = HubOptions { offline: true, ..options.clone() };
                assert!(matches!(resolve(&asked, &offline), Err(Error::Hub(_))));
            }
            // Once the hub has it right, the same command does.
            server.set(|now, _| *now = if name.starts_with("m-") { sharded() } else { tiny() });
            pull("acme/tiny", &options).unwrap();
        }
    }
}

#[test]
fn a_damaged_file_from_before_is_found_and_fetched_again() {
    let (_root, server, options) = setup(tiny(), Faults { bare_listing: true, ..Faults::default() });
    let weights = pull("acme/tiny", &options).unwrap().folder.weights.remove(0);
    for name in ["acme/tiny".to_string(), format!("acme/tiny@{COMMIT}")] {
        std::fs::remove_file(&weights).unwrap();
        std::fs::write(&weights, "{}").unwrap();
        server.set(|_, _| ());
        assert_eq!(pull(&name, &options).unwrap().downloaded, ["model.safetensors"]);
        assert_eq!(std::fs::read(&weights).unwrap(), tiny()["model.safetensors"]);
    }
}

#[test]
fn an_index_that_its_shards_do_not_keep_is_refused() {
    let mut files = sharded();
    files.insert("m-2-of-2.safetensors".into(), weights(&["c"]));
    let (_root, server, options) = setup(files, Faults::default());
    let message = hub_error(pull("acme/tiny", &options));
    assert!(message.contains("puts `b` into m-2-of-2.safetensors, which does not have it"), "{message}");
    assert_nothing_complete(&options, "model.safetensors.index.json");
    server.set(|files, _| *files = sharded());
    pull("acme/tiny", &options).unwrap();
}
