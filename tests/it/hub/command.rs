//! The commands as they are typed: environment variables, exit codes, JSON.

use super::server::{Faults, Server};
use super::*;
use std::process::{Command, Output};

/// `morec` in an empty folder, with none of the outer environment's settings.
fn morec(root: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_morec"));
    command.current_dir(root).args(args).env_clear().env("HOME", root).envs(env.iter().copied());
    command.output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn pull_list_verify() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::new(tiny(), Faults { token: Some("hf_xyz".into()), ..Faults::default() });
    let at = ("HF_ENDPOINT", server.url.as_str());

    let refused = morec(root.path(), &["models", "pull", "acme/tiny"], &[at]);
    assert_eq!(refused.status.code(), Some(6));
    assert!(stderr(&refused).starts_with("morec: hub: ") && refused.stdout.is_empty());

    let pulled = morec(root.path(), &["models", "pull", "acme/tiny", "--json"], &[at, ("HF_TOKEN", "hf_xyz")]);
    let value = json(&pulled);
    let cache = root.path().join(".cache/huggingface/hub");
    assert!(Path::new(value["dir"].as_str().unwrap()).starts_with(&cache));
    assert_eq!(value["downloaded"].as_array().unwrap().len(), 3);
    assert!(stderr(&pulled).contains("model.safetensors: "), "plain progress lines");

    let listed = json(&morec(root.path(), &["models", "list", "--json"], &[]));
    let entry = |name: &str| listed.as_array().unwrap().iter().find(|e| e["name"] == name).unwrap().clone();
    assert_eq!(
        (entry("acme/tiny")["place"].as_str(), entry("acme/tiny")["architecture"].as_str()),
        (Some("cache"), Some("bert"))
    );
    assert_eq!(entry("bert-tiny")["place"], "hub");
    let text = String::from_utf8(morec(root.path(), &["models", "list"], &[]).stdout).unwrap();
    assert!(text.contains("all-minilm-l6-v2") && text.contains("acme/tiny"));

    server.set(|_, _| ());
    let verified = morec(root.path(), &["models", "verify", "acme/tiny", "--json"], &[at]);
    assert_eq!((verified.status.code(), json(&verified)["tensors"].as_u64()), (Some(0), Some(2)));
    assert!(server.requests().is_empty());

    let blob = cache.join("models--acme--tiny/blobs").join(morec::fsio::sha256_bytes(&tiny()["model.safetensors"]));
    let mut content = std::fs::read(&blob).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, content).unwrap();
    let verified = morec(root.path(), &["models", "verify", "acme/tiny", "--json"], &[at]);
    assert_eq!(verified.status.code(), Some(4));
    assert!(json(&verified)["problems"][0]["message"].as_str().unwrap().contains("SHA-256"));
    assert!(stderr(&verified).contains("model.safetensors"));
}

#[test]
fn the_cache_and_the_token_are_where_the_environment_says() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::new(tiny(), Faults { token: Some("hf_file".into()), ..Faults::default() });
    let at = ("HF_ENDPOINT", server.url.as_str());
    let home = root.path().join("home");
    let home_text = home.to_str().unwrap();
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("token"), "hf_file\n").unwrap();
    let pull = |env: &[(&str, &str)]| {
        let done = morec(root.path(), &["models", "pull", "acme/tiny", "--json"], env);
        json(&done)["dir"].as_str().unwrap().to_string()
    };
    assert!(Path::new(&pull(&[at, ("HF_HOME", home_text)])).starts_with(home.join("hub")));
    let other = root.path().join("other");
    let dir = pull(&[at, ("HF_HOME", home_text), ("HF_HUB_CACHE", other.to_str().unwrap())]);
    assert!(Path::new(&dir).starts_with(&other));
    // A later variable wins over the file, an empty one counts as unset.
    let wrong = [at, ("HF_HOME", home_text), ("HF_TOKEN", "hf_wrong")];
    assert_eq!(morec(root.path(), &["models", "pull", "acme/tiny"], &wrong).status.code(), Some(6));
    pull(&[at, ("HF_HOME", home_text), ("HF_TOKEN", ""), ("HF_HUB_OFFLINE", "0")]);
}

#[test]
fn offline() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::new(tiny(), Faults::default());
    for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let env = [("HF_ENDPOINT", server.url.as_str()), (name, "1")];
        let refused = morec(root.path(), &["models", "pull", "acme/tiny"], &env);
        assert_eq!(refused.status.code(), Some(6));
        assert!(stderr(&refused).contains("HF_HUB_OFFLINE"));
    }
    assert!(server.requests().is_empty() && tree(root.path()).is_empty());
}

#[test]
fn mistakes_are_usage_errors() {
    let root = tempfile::tempdir().unwrap();
    for args in [&["models", "pull", "../x"][..], &["models", "verify", "a/b/c"], &["models", "fly"], &["fly"], &[]] {
        assert_eq!(morec(root.path(), args, &[]).status.code(), Some(2), "{args:?}");
    }
    let env = [("HF_ENDPOINT", "nowhere")];
    let refused = morec(root.path(), &["models", "pull", "acme/tiny"], &env);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("HF_ENDPOINT"));
}

#[test]
fn doctor() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("models/tiny"), &tiny());
    let env = [("HF_TOKEN", "hf_secret"), ("HF_ENDPOINT", "http://me:pass@127.0.0.1:1")];
    let output = morec(root.path(), &["doctor", "--json"], &env);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!text.contains("hf_secret") && !text.contains("pass"), "{text}");
    let value = json(&output);
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    assert!(value["gflops_one_thread"].as_f64().unwrap() > 0.01);
    assert_eq!(value["devices"][0], "cpu");
    assert_eq!(value["models"][0]["sha256"].as_str().unwrap().len(), 64);
    let plain = morec(root.path(), &["doctor", "--models", "gone", "--data", "gone"], &env);
    assert_eq!(plain.status.code(), Some(0));
    let text = String::from_utf8(plain.stdout).unwrap();
    assert!(text.contains("GFLOP/s") && text.matches("problem: ").count() == 2, "{text}");
    // A broken setting is part of the diagnosis, not its end.
    let broken = morec(root.path(), &["doctor", "--json"], &[("HF_ENDPOINT", "nowhere")]);
    assert!(json(&broken)["environment"].to_string().contains("problem"));
}
