//! Distillation: vocabularies that cut alike, a student that learns, resumes and loads elsewhere.

use crate::support::shared;
use morec::distill::{self, DistillConfig, DistillReport, Progress, vocab};
use morec::distill::{ImageCorpus, ImageDistillation, TextCorpus, TextDistillation};
use morec::item::Tokens;
use morec::item::image::ImageFolder;
use morec::item::text::TextFolder;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

fn titles() -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let config = morec::data::synth::SynthConfig {
        platform: morec::data::synth::Platform::Goods,
        users: 1,
        items: 160,
        mean_events: 5.0,
        noise: 0.0,
        seed: 3,
        covers: false,
    };
    morec::data::synth::write(&config, &dir.path().join("d"), &|_, _| ()).unwrap();
    morec::data::Dataset::open(&dir.path().join("d")).unwrap().items.text
}

fn cuts_alike(folder: &Path, lower: bool) {
    let json = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let whole: Tokenizer = json.parse().unwrap();
    let texts = titles();
    let before = Tokens::new(&whole, &texts, 64, lower).unwrap();
    let pruned = vocab::prune(folder, &json, &before, 30_000).unwrap();
    assert_eq!(pruned.coverage, 1.0);
    assert!(pruned.old_ids.len() < whole.get_vocab_size(true) / 2, "{}", pruned.old_ids.len());
    let small: Tokenizer = pruned.json.parse().unwrap();
    assert_eq!(small.get_vocab_size(true), pruned.old_ids.len());
    let after = Tokens::new(&small, &texts, 64, lower).unwrap();
    for i in 0..texts.len() {
        let mapped: Vec<u32> = after.row(i).iter().map(|&t| pruned.old_ids[t as usize]).collect();
        assert_eq!(mapped, before.row(i), "{}", texts[i]);
    }
    // A word the corpus lacks falls into pieces, never into nothing.
    let strange = Tokens::new(&small, &["zyxwvut qpo 0189"], 64, lower).unwrap();
    let unknown = small.token_to_id("[UNK]").or(small.token_to_id("<unk>")).unwrap();
    assert!(strange.row(0).len() > 5 && !strange.row(0).contains(&unknown), "{:?}", strange.row(0));
    // Too few: the rarest go, and the share that is left is told.
    let tight = vocab::prune(folder, &json, &before, 420).unwrap();
    assert!((420..430).contains(&tight.old_ids.len()) || tight.old_ids.len() >= 420);
    assert!(tight.coverage < 1.0 && tight.coverage > 0.3, "{}", tight.coverage);
}

#[test]
fn a_pruned_wordpiece_vocabulary_cuts_the_corpus_as_before() {
    cuts_alike(&shared("models/bert-tiny-splade"), true);
}

#[test]
fn a_pruned_byte_pair_vocabulary_cuts_the_corpus_as_before() {
    cuts_alike(&shared("models/roberta-base-tokenizer"), false);
}

fn distill(
    config: &DistillConfig,
    teacher: &Path,
    others: &[(String, TextFolder)],
    corpus: &TextCorpus,
    work: &Path,
    out: &Path,
    tell: &dyn Fn(Progress),
) -> morec::Result<DistillReport> {
    distill::distill(&TextDistillation::open(config, teacher, corpus, others)?, work, out, tell)
}

fn lesson(hidden_weight: f64) -> (DistillConfig, TextCorpus, PathBuf) {
    let teacher = shared("models/bert-tiny-splade");
    let config = DistillConfig {
        name: "pupil".into(),
        teacher: teacher.display().to_string(),
        hidden: 32,
        layers: 1,
        heads: 2,
        intermediate: 64,
        vocab: 1500,
        epochs: 3,
        batch_size: 32,
        lr: 3e-3,
        hidden_weight,
        checkpoint_steps: 4,
        held_out: 0.2,
        ..Default::default()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), titles().join("\n")).unwrap();
    let corpus = TextCorpus::read(&[], &[file.path().into()], config.held_out, config.crops, config.seed).unwrap();
    (config, corpus, teacher)
}

#[test]
fn the_corpus_holds_texts_out_whole() {
    let (_, corpus, _) = lesson(0.0);
    assert!((15..50).contains(&corpus.held_out.len()), "{}", corpus.held_out.len());
    assert!(corpus.train.len() > 150, "{}", corpus.train.len());
    assert!(corpus.held_out.iter().all(|h| !corpus.train.contains(h)));
}

#[test]
fn a_student_learns_and_a_stopped_lesson_goes_on_bit_for_bit() {
    for hidden_weight in [0.0, 0.5] {
        let (config, corpus, teacher) = lesson(hidden_weight);
        let dir = tempfile::tempdir().unwrap();
        let at = |n: &str| dir.path().join(n);
        let losses = std::cell::RefCell::new(vec![]);
        let tell = |p: Progress| {
            if let Progress::Step(step, _, loss) = p {
                losses.borrow_mut().push((step, loss));
            }
        };
        let itself = [("itself".to_string(), TextFolder::open(&teacher, true).unwrap())];
        let report = distill(&config, &teacher, &itself, &corpus, &at("w1"), &at("whole"), &tell).unwrap();
        let losses = losses.into_inner();
        assert!(losses.last().unwrap().1 < 0.8 * losses[0].1, "{losses:?}");
        assert!(report.cosine > 0.3 && report.recall_at_10 > 0.2, "{report:?}");
        assert!(report.recall_at_10_limit >= report.recall_at_10 && report.parameters < 200_000, "{report:?}");

        assert_eq!(report.others, [("itself".to_string(), 1.0)]);

        let (w, out) = (at("w2"), at("resumed"));
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let stop = |p: Progress| assert!(!matches!(p, Progress::Step(10, ..)), "stopped here on purpose");
            distill(&config, &teacher, &[], &corpus, &w, &out, &stop)
        }));
        assert!(stopped.is_err() && !out.exists());
        let noted = std::cell::RefCell::new(String::new());
        let hear = |p: Progress| {
            if let Progress::Note(n) = p {
                noted.borrow_mut().push_str(n);
            }
        };
        distill(&config, &teacher, &[], &corpus, &w, &out, &hear).unwrap();
        assert!(noted.borrow().contains("going on at step 8"), "{}", noted.borrow());
        let bytes = |d: &str| std::fs::read(at(d).join("model.safetensors")).unwrap();
        assert!(bytes("whole") == bytes("resumed"));

        let other = DistillConfig { lr: 1e-4, ..config.clone() };
        let e = distill(&other, &teacher, &[], &corpus, &w, &out, &|_| ()).unwrap_err().to_string();
        assert!(e.contains("other settings") && e.contains("--force"), "{e}");

        // What was written is a Hugging Face folder like any other.
        let folder = TextFolder::open(&at("whole"), true).unwrap();
        assert_eq!((folder.config.hidden_size, folder.config.num_hidden_layers), (32, 1));
        let options = morec::hub::HubOptions { offline: true, ..morec::hub::HubOptions::new(at("none"), at("cache")) };
        let found = morec::hub::resolve(at("whole").to_str().unwrap(), &options);
        assert_eq!(found.unwrap().card.unwrap().name, "pupil");
    }
}

#[test]
fn an_image_student_learns_and_a_stopped_distillation_resumes_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let at = |n: &str| dir.path().join(n);
    let config = morec::data::synth::SynthConfig {
        platform: morec::data::synth::Platform::Goods,
        users: 1,
        items: 100,
        mean_events: 5.0,
        noise: 0.0,
        seed: 3,
        covers: true,
    };
    morec::data::synth::write(&config, &at("d"), &|_, _| ()).unwrap();
    let teacher = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/cover-mini");
    let config = DistillConfig {
        teacher: teacher.display().to_string(),
        hidden: 16,
        layers: 1,
        heads: 2,
        intermediate: 32,
        side: 32,
        patch: 8,
        epochs: 4,
        batch_size: 32,
        lr: 3e-3,
        checkpoint_steps: 4,
        held_out: 0.2,
        ..Default::default()
    };
    let pre = ImageFolder::open(&teacher, false).unwrap().preprocess;
    let corpus = ImageCorpus::read(&[at("d")], &pre, config.held_out, config.seed, &|_| ()).unwrap();
    let task = ImageDistillation::open(&config, &teacher, &corpus).unwrap();
    let losses = std::cell::RefCell::new(vec![]);
    let tell = |p: Progress| {
        if let Progress::Step(_, _, loss) = p {
            losses.borrow_mut().push(loss);
        }
    };
    let report = distill::distill(&task, &at("w1"), &at("whole"), &tell).unwrap();
    let losses = losses.into_inner();
    assert!(losses.last().unwrap() < &(0.95 * losses[0]), "{losses:?}");
    assert!(report.held_out > 5 && report.cosine > 0.1 && report.recall_at_10 > 0.2, "{report:?}");
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let stop = |p: Progress| assert!(!matches!(p, Progress::Step(10, ..)), "stopped here on purpose");
        distill::distill(&task, &at("w2"), &at("resumed"), &stop)
    }));
    assert!(stopped.is_err() && !at("resumed").exists());
    distill::distill(&task, &at("w2"), &at("resumed"), &|_| ()).unwrap();
    let bytes = |d: &str| std::fs::read(at(d).join("model.safetensors")).unwrap();
    assert!(bytes("whole") == bytes("resumed"));
    // The card has the common figures and the image's own.
    let card = std::fs::read_to_string(at("whole/model.toml")).unwrap();
    assert!(card.contains("mirrored") && card.contains("recall@10") && card.contains("image_size = 32"), "{card}");
    assert!(ImageFolder::open(&at("whole"), true).is_ok());
}

#[test]
fn impossible_students_are_refused_by_flag() {
    let refused = |c: DistillConfig, flag: &str| {
        let e = c.check().unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains(flag), "{e}");
    };
    let d = DistillConfig::default;
    refused(DistillConfig { heads: 5, ..d() }, "--heads");
    refused(DistillConfig { layers: 0, ..d() }, "--layers");
    refused(DistillConfig { held_out: 1.5, ..d() }, "--held-out");
    refused(DistillConfig { max_tokens: 2, ..d() }, "--max-tokens");
}

#[test]
fn two_lines_and_nothing_held_out_still_make_a_student() {
    let (config, _, teacher) = lesson(0.0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.txt");
    std::fs::write(&file, "red guitar\nblue drum\n\nRED guitar\n").unwrap();
    let corpus = TextCorpus::read(&[], std::slice::from_ref(&file), 0.0, 2, 1).unwrap();
    assert_eq!((corpus.train.len(), corpus.held_out.len()), (2, 0));
    let out = dir.path().join("out");
    let report = distill(&config, &teacher, &[], &corpus, &dir.path().join("w"), &out, &|_| ()).unwrap();
    assert_eq!(report.held_out, 0);
    let card = std::fs::read_to_string(out.join("model.toml")).unwrap();
    assert!(!card.contains("recall") && !card.contains("NaN"), "{card}");
    std::fs::write(&file, "one line\n").unwrap();
    let e = TextCorpus::read(&[], std::slice::from_ref(&file), 0.0, 2, 1).unwrap_err();
    assert!(e.exit_code() == 3 && e.to_string().contains("two.txt"), "{e}");
}
