"""Makes the folders beside this file, with the version of `morec` whose formats they keep.

usage: make.py MOREC   (the program of that version; writes into the current folder)

A tiny BERT and a tiny ViT without weights, two invented domains, runs on the first, transfers to the second (whole, LoRA,
Houlsby, side towers), an ID run, a run that was stopped in its second epoch, and what that program said of them (expected.json).
"""
import base64, json, os, random, shutil, struct, subprocess, sys, time, zlib

MOREC = os.path.abspath(sys.argv[1])
WORDS = "red blue old new small large guitar piano drum violin flute horn strings stand case bow pick stick cable tuner strap book lamp chair".split()


def text_encoder(d):
    os.makedirs(d)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    token = lambda t: {"id": t, "ids": [special.index(t)], "tokens": [t]}
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, t in enumerate(special)]
    post = {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: token(t) for t in ("[CLS]", "[SEP]")}}
    tok = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
           "pre_tokenizer": {"type": "Whitespace"}, "decoder": None, "post_processor": post,
           "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(special + WORDS)}, "unk_token": "[UNK]"}}
    cfg = {"model_type": "bert", "vocab_size": 28, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
           "intermediate_size": 32, "hidden_act": "gelu", "max_position_embeddings": 16, "type_vocab_size": 2,
           "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    json.dump(tok, open(f"{d}/tokenizer.json", "w"))
    json.dump(cfg, open(f"{d}/config.json", "w"))


def image_encoder(d):
    os.makedirs(d)
    cfg = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
           "hidden_act": "gelu", "image_size": 16, "patch_size": 8, "num_channels": 3, "layer_norm_eps": 1e-12, "qkv_bias": True,
           "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    pre = {"do_resize": True, "size": {"height": 16, "width": 16}, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255,
           "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    json.dump(cfg, open(f"{d}/config.json", "w"))
    json.dump(pre, open(f"{d}/preprocessor_config.json", "w"))


def png(rgb, side=16):
    raw = b"".join(b"\0" + bytes(rgb) * side for _ in range(side))
    chunk = lambda k, b: struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def domain(name, users, items, seed):
    r = random.Random(seed)
    os.makedirs(f"raw/{name}/pictures")
    titles = [" ".join(r.choice(WORDS) for _ in range(3)) for _ in range(items)]
    with open(f"raw/{name}/items.csv", "w") as f:
        f.write("item,title\n" + "".join(f"{name}{i},{t}\n" for i, t in enumerate(titles)))
    for i in range(items):
        open(f"raw/{name}/pictures/{name}{i}.png", "wb").write(png([r.randrange(256) for _ in range(3)]))
    with open(f"raw/{name}/clicks.csv", "w") as f:
        f.write("user,item,ts\n")
        for u in range(users):
            last = r.randrange(items)
            for t in range(r.randrange(5, 9)):
                f.write(f"u{u},{name}{last},{1000 + t}\n")
                near = [c for c in (r.randrange(items) for _ in range(20)) if set(titles[c].split()) & set(titles[last].split())]
                last = near[0] if near else r.randrange(items)
    run("data", "import", "--format", "csv", "--interactions", f"raw/{name}/clicks.csv", "--user-col", "user", "--item-col", "item",
        "--time-col", "ts", "--items", f"raw/{name}/items.csv", "--item-id-col", "item", "--text-cols", "title",
        "--images", f"raw/{name}/pictures", "--out", f"datasets/{name}")


def run(*args, json_out=False):
    out = subprocess.run([MOREC, *args] + (["--json"] if json_out else []), stdout=subprocess.PIPE, text=True)
    if out.returncode:
        sys.exit(f"morec {' '.join(args)}: {out.returncode}")
    return out.stdout


TINY = ["user.dim=16", "user.max_len=6", "item.max_tokens=8", "train.epochs=2", "train.batch_size=16", "item.pretrained=false",
        "item.image.pretrained=false", "item.model=encoders/text", "item.image.model=encoders/image", "adapter.width=4",
        "adapter.user_width=4", "adapter.rank=2", "train.checkpoint_steps=2"]
S = [a for s in TINY for a in ("-s", s)]
shutil.rmtree("raw", True), shutil.rmtree("datasets", True), shutil.rmtree("runs", True), shutil.rmtree("encoders", True)
text_encoder("encoders/text"), image_encoder("encoders/image")
domain("a", 60, 30, 1), domain("b", 50, 25, 2)
run("train", "-d", "datasets/a", *S, "--out", "runs/source")
run("train", "-d", "datasets/a", *S, "-s", "item.kind=id", "--out", "runs/id")
run("train", "-d", "datasets/a", *S, "-s", "item.kind=both", "--out", "runs/both")
run("transfer", "--source", "runs/source", "-d", "datasets/b", *S, "--preset", "full,lora,houlsby,side", "--out", "runs/moved")

# Whole, then the same killed on its way.
LONG = ["train", "-d", "datasets/a", *S, "-s", "train.epochs=60", "-s", "train.patience=0", "-s", "train.eval_every=3", "--out"]
run(*LONG, "runs/whole")
p = subprocess.Popen([MOREC, *LONG, "runs/stopped"])
while not os.path.exists("runs/stopped/metrics.jsonl") or open("runs/stopped/metrics.jsonl").read().count("valid") < 9:
    time.sleep(0.002)
p.kill(), p.wait()
if os.path.exists("runs/stopped/result.json"):
    sys.exit("the run ended before it was killed; try again")
expected = {}
for r in ["source", "id", "both", "moved/full", "moved/lora", "moved/houlsby", "moved/side", "whole"]:
    kept = json.load(open(f"runs/{r}/result.json"))
    d = "b" if r.startswith("moved") else "a"
    top = json.loads(run("recommend", f"runs/{r}", "--history", f"{d}0,{d}1,{d}2", "-k", "5", json_out=True))
    expected[r] = {"test": kept["test"]["all"], "parameters": kept["parameters"], "recommend": top}
json.dump(expected, open("expected.json", "w"), indent=1)
