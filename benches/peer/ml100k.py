#!/usr/bin/env python
"""Public PyTorch sequential recommenders on MovieLens-100K under the protocol of `../ml100k.sh`.

    python3.11 -m venv peers && peers/bin/pip install "rectools[torch]==0.19.0" recbole==1.2.1 torch==2.15.0 numpy==1.26.4
    peers/bin/python benches/peer/ml100k.py DATA/ml-100k.inter sasrec --seed 1 --out results.jsonl

MODEL: sasrec, bert4rec (RecTools); gru4rec, nextitnet, caser5 (RecBole's classes in a loop of our own: its data
augmentation, every prefix a sample; no change to a model); nextitnet-lp: the same with histories aligned at their end
(RecBole pads at the right and reads the last slot, which for shorter histories is padding).

Leave-one-out by (timestamp, file order), stable; trained on the training events only; all 1,682 items ranked, history
masked, ties at their mean place; metrics are computed here, not by the libraries. A line of JSON a run is appended to
--out: metrics after the last epoch and at the best validation, the curve, seconds of training an epoch (median).
"""
import argparse, json, os, sys, time, warnings, logging, platform
ap = argparse.ArgumentParser()
ap.add_argument("data")
ap.add_argument("model")
ap.add_argument("--seed", type=int, default=1)
ap.add_argument("--epochs", type=int, default=None)
ap.add_argument("--patience", type=int, default=5)       # RecBole models only
ap.add_argument("--mask-prob", type=float, default=0.15)
ap.add_argument("--batch", type=int, default=None)
ap.add_argument("--eval-every", type=int, default=None)
ap.add_argument("--out", default="results.jsonl")
ap.add_argument("--time-only", action="store_true")
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--note", default="")
A = ap.parse_args()
os.environ["OMP_NUM_THREADS"] = str(A.threads)
os.environ["MKL_NUM_THREADS"] = str(A.threads)
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd, torch
torch.set_num_threads(A.threads)
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

L = 50
N_ITEMS = 1682

# ------------------------------------------------------------------ data
def load():
    df = pd.read_csv(A.data, sep="\t", header=0, names=["u", "i", "r", "t"],
                     dtype={"u": np.int64, "i": np.int64, "r": np.float64, "t": np.int64})
    assert len(df) == 100000
    df["pos"] = np.arange(len(df))
    df = df.sort_values(["u", "t", "pos"], kind="stable")
    seqs = [g.to_numpy() - 1 for _, g in df.groupby("u", sort=True)["i"]]     # 0-based item ids
    assert len(seqs) == 943 and max(s.max() for s in seqs) == N_ITEMS - 1
    assert all(len(set(s.tolist())) == len(s) for s in seqs)                  # no repeats
    assert sum(len(s) - 2 for s in seqs) == 98114
    return seqs

SEQS = load()
TRAIN = [s[:-2] for s in SEQS]
HIST = {"val": [s[:-2] for s in SEQS], "test": [s[:-1] for s in SEQS]}
TARGET = {"val": np.array([s[-2] for s in SEQS]), "test": np.array([s[-1] for s in SEQS])}
TRAIN_ITEMS = np.unique(np.concatenate(TRAIN))

def metrics(scores, split):
    """scores [943,1682] float; unscorable items must hold -1e30."""
    s = scores.astype(np.float64).copy()
    assert s.shape == (943, N_ITEMS) and np.isfinite(s).all()
    for u, h in enumerate(HIST[split]):
        s[u, h] = -np.inf
    tg = TARGET[split]
    st = s[np.arange(943), tg][:, None]
    rank = 1 + (s > st).sum(1) + 0.5 * ((s == st).sum(1) - 1)
    hit = rank <= 10
    return {"hr10": float(hit.mean()), "ndcg10": float(np.where(hit, 1 / np.log2(rank + 1), 0).mean())}, rank

CURVE = []          # (epoch, val, test)
SECS = []           # training seconds of every epoch
LOSS = []
EXTRA = {}

def evaluate(score_fn, epoch, verbose=True):
    r = {}
    for split in ("val", "test"):
        r[split], r[split + "_rank"] = metrics(score_fn(split), split)
    CURVE.append((epoch, r["val"], r["test"]))
    if verbose:
        print(f"[{A.model} s{A.seed}] ep {epoch:3d} {SECS[-1] if SECS else 0:6.2f}s loss {LOSS[-1] if LOSS else 0:.4f} "
              f"val {r['val']['hr10']:.4f}/{r['val']['ndcg10']:.4f} test {r['test']['hr10']:.4f}/{r['test']['ndcg10']:.4f}",
              flush=True)
    return r

# ------------------------------------------------------------------ RecTools
def make_trainer(**kw):
    from pytorch_lightning import Trainer
    return Trainer(accelerator="cpu", devices=1, max_epochs=EPOCHS, min_epochs=EPOCHS, logger=False,
                   enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                   callbacks=[make_cb()])

def make_cb():
    import pytorch_lightning as pl
    class CB(pl.Callback):
        def on_train_start(self, trainer, m):
            from rectools.models.nn.transformers.data_preparator import SequenceDataset
            dp = m.data_preparator
            ext = dp.item_id_map.external_ids                 # internal -> external
            uext = dp.train_dataset.user_id_map.external_ids
            df = dp.train_dataset.interactions.df
            sd = SequenceDataset.from_interactions(df, sort_users=True)
            keep = L + dp.train_session_max_len_addition
            users = np.sort(df["user_id"].unique())
            assert len(sd.sessions) == 943
            for iu, ses in zip(users, sd.sessions):
                ours = TRAIN[uext[iu] - 1][-keep:]
                assert [ext[k] for k in ses] == (ours + 1).tolist(), "sequence mismatch"
            nx = dp.n_item_extra_tokens
            EXTRA["vocab_items"] = int(dp.item_id_map.size - nx)
            EXTRA["train_events_used"] = int(len(df))
            EXTRA["train_sequences_checked"] = 943
            RT["ext"] = ext; RT["nx"] = nx
            full = np.zeros(N_ITEMS, np.int64)                # 0 = unknown
            for k in range(nx, len(ext)):
                full[int(ext[k]) - 1] = k
            RT["to_int"] = full
            RT["mask"] = dp.extra_token_ids.get("MASK") if nx > 1 else None
        def on_train_epoch_start(self, trainer, m):
            RT["t0"] = time.perf_counter()
        def on_train_epoch_end(self, trainer, m):
            SECS.append(time.perf_counter() - RT["t0"])
            LOSS.append(float(trainer.callback_metrics.get("train_loss", float("nan"))))
            ep = trainer.current_epoch + 1
            if not A.time_only and (ep % EVERY == 0 or ep == EPOCHS):
                RT["last"] = evaluate(lambda sp: rt_scores(m.torch_model, sp), ep)
                m.train()
    return CB()

RT = {}
def rt_scores(tm, split):
    """own collate: last L events of the history (L-1 and the mask for BERT4Rec), left padded, unknown dropped"""
    to_int, mask = RT["to_int"], RT["mask"]
    x = np.zeros((943, L), np.int64)
    n_unk = 0
    for u, h in enumerate(HIST[split]):
        s = to_int[h[-(L - (mask is not None)):]]
        n_unk += int((s == 0).sum())
        s = s[s > 0]
        if mask is not None:
            s = np.append(s, mask)
        x[u, L - len(s):] = s
    EXTRA["unknown_history_events_" + split] = n_unk
    EXTRA["targets_unscorable_" + split] = int((to_int[TARGET[split]] == 0).sum())
    was = tm.training
    tm.eval()
    out = np.full((943, N_ITEMS), -1e30)
    with torch.no_grad():
        emb = tm.item_model.get_all_embeddings()
        h = torch.cat([tm.encode_sessions({"x": torch.from_numpy(x[b:b + 256])}, emb)[:, -1, :] for b in range(0, 943, 256)])
        sc = (h @ emb.T).numpy()
    known = to_int > 0
    out[:, known] = sc[:, to_int[known]]
    tm.train(was)
    return out

def run_rectools(name):
    import pytorch_lightning as pl
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models.nn.item_net import IdEmbeddingsItemNet
    pl.seed_everything(A.seed, verbose=False)
    rows = [(u + 1, int(i) + 1, 1.0, k) for u, s in enumerate(TRAIN) for k, i in enumerate(s)]
    df = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Weight, "rank"])
    df[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(df.pop("rank"), unit="D")
    # order of rows is shuffled: the library must rely on the datetime alone
    df = df.sample(frac=1.0, random_state=0).reset_index(drop=True)
    ds = Dataset.construct(df)
    kw = dict(n_factors=64, n_blocks=2, n_heads=2, session_max_len=L, dropout_rate=0.2, loss="softmax", lr=1e-3,
              batch_size=BATCH, train_min_user_interactions=2, item_net_block_types=(IdEmbeddingsItemNet,),
              epochs=EPOCHS, recommend_torch_device="cpu")
    if name == "sasrec":
        from rectools.models.nn.transformers.sasrec import SASRecModel as M
    else:
        from rectools.models.nn.transformers.bert4rec import BERT4RecModel as M
        kw["mask_prob"] = A.mask_prob
    model = M(**kw, get_trainer_func=make_trainer)
    model.fit(ds)
    EXTRA["n_parameters"] = sum(p.numel() for p in model.torch_model.parameters())
    if not A.time_only:                      # cross-check against the library's own recommend(), validation event
        rec = model.recommend(users=np.arange(1, 944), dataset=ds, k=10, filter_viewed=True)
        hit = rec.merge(pd.DataFrame({Columns.User: np.arange(1, 944), Columns.Item: TARGET["val"] + 1}),
                        on=[Columns.User, Columns.Item])
        nd = (1 / np.log2(hit[Columns.Rank] + 1)).sum() / 943
        EXTRA["check_library_recommend_val"] = {"hr10": len(hit) / 943, "ndcg10": float(nd)}
        print("library recommend() on validation:", EXTRA["check_library_recommend_val"], flush=True)
    st = {k: (v if not isinstance(v, tuple) else [c.__name__ for c in v]) for k, v in kw.items()}
    st["adam_betas"] = [0.9, 0.98]
    return 943, st

# ------------------------------------------------------------------ RecBole
RB = {
    "gru4rec": dict(embedding_size=64, hidden_size=64, num_layers=2, dropout_prob=0.2, loss_type="CE"),
    "nextitnet": dict(embedding_size=64, kernel_size=3, block_num=2, dilations=[1, 4], reg_weight=1e-5, loss_type="CE"),
    "caser": dict(embedding_size=64, dropout_prob=0.4, reg_weight=1e-4, nv=4, nh=8, loss_type="CE"),
}

class Cfg(dict):
    def __missing__(self, k):
        return None

class FakeDataset:
    user_num = 944
    item_num = N_ITEMS + 1
    def num(self, field):
        return {"user_id": self.user_num, "item_id": self.item_num}[field]

def prefix_samples(seqs, ML, left):
    """RecBole's data_augmentation: every prefix (last ML items), target = next item; right padded with 0, ids + 1."""
    n = sum(len(s) - 1 for s in seqs)
    X = np.zeros((n, ML), np.int64); ln = np.zeros(n, np.int64); y = np.zeros(n, np.int64); us = np.zeros(n, np.int64)
    k = 0
    for u, s in enumerate(seqs):
        s1 = s + 1
        for p in range(1, len(s)):
            h = s1[max(0, p - ML):p]
            if left: X[k, ML - len(h):] = h
            else: X[k, :len(h)] = h
            ln[k], y[k], us[k] = len(h), s1[p], u + 1
            k += 1
    assert k == n
    return X, ln, y, us

def run_recbole(name):
    np.random.seed(A.seed); torch.manual_seed(A.seed)
    left = name.endswith("-lp")
    if left: name = name[:-3]
    ML = L
    if name.startswith("caser"):
        ML = int(name[5:]); name = "caser"
    for nm, val in (("bool", bool), ("int", int), ("float", float), ("object", object), ("long", np.int64)):
        if nm not in np.__dict__: setattr(np, nm, val)
    from recbole.data.interaction import Interaction
    if name == "gru4rec": from recbole.model.sequential_recommender.gru4rec import GRU4Rec as M
    elif name == "nextitnet": from recbole.model.sequential_recommender.nextitnet import NextItNet as M
    else: from recbole.model.sequential_recommender.caser import Caser as M
    cfg = Cfg(USER_ID_FIELD="user_id", ITEM_ID_FIELD="item_id", LIST_SUFFIX="_list", ITEM_LIST_LENGTH_FIELD="item_length",
              NEG_PREFIX="neg_", MAX_ITEM_LIST_LENGTH=ML, device=torch.device("cpu"), **RB[name])
    model = M(cfg, FakeDataset())
    EXTRA["n_parameters"] = sum(p.numel() for p in model.parameters())
    X, ln, y, us = map(torch.from_numpy, prefix_samples(TRAIN, ML, left))
    n = len(y)
    assert n == 98114 - 943
    ev = {}
    for sp in ("val", "test"):
        xe = np.zeros((943, ML), np.int64); le = np.zeros(943, np.int64)
        for u, h in enumerate(HIST[sp]):
            h = h[-ML:] + 1
            if left: xe[u, ML - len(h):] = h
            else: xe[u, :len(h)] = h
            le[u] = len(h)
        ev[sp] = (torch.from_numpy(xe), torch.from_numpy(le))
    def scores(sp):
        model.eval()
        xe, le = ev[sp]
        with torch.no_grad():
            o = [model.full_sort_predict(Interaction({"user_id": torch.arange(b + 1, min(b + 256, 943) + 1),
                                                      "item_id_list": xe[b:b + 256], "item_length": le[b:b + 256]}))
                 for b in range(0, 943, 256)]
        return torch.cat(o).numpy()[:, 1:]
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    best, bad = -1, 0
    for ep in range(1, EPOCHS + 1):
        model.train()
        t0 = time.perf_counter()
        perm = torch.randperm(n)
        tot = 0.0
        for b in range(0, n, BATCH):
            ix = perm[b:b + BATCH]
            it = Interaction({"user_id": us[ix], "item_id_list": X[ix], "item_length": ln[ix], "item_id": y[ix]})
            opt.zero_grad()
            loss = model.calculate_loss(it)
            loss.backward()
            opt.step()
            tot += float(loss.detach()) * len(ix)
        SECS.append(time.perf_counter() - t0); LOSS.append(tot / n)
        if A.time_only:
            print(f"[{A.model}] epoch {ep} {SECS[-1]:.2f}s loss {LOSS[-1]:.4f}", flush=True)
            continue
        if ep % EVERY == 0 or ep == EPOCHS:
            v = evaluate(scores, ep)["val"]["ndcg10"]
            if v > best: best, bad = v, 0
            else:
                bad += 1
                if bad >= A.patience: break
    st = dict(RB[name], MAX_ITEM_LIST_LENGTH=ML, train_batch_size=BATCH, lr=1e-3, patience=A.patience,
              padding="left" if left else "right (RecBole)")
    return n, st

# ------------------------------------------------------------------ main
rt = A.model in ("sasrec", "bert4rec")
EPOCHS = 3 if A.time_only else (A.epochs or {"sasrec": 100, "bert4rec": 300, "gru4rec": 25, "nextitnet": 12}.get(A.model, 30))
EVERY = A.eval_every or (5 if rt else 1)
BATCH = A.batch or (128 if rt else 2048 if A.model.startswith("caser") else 512)
load0 = os.getloadavg()
t00 = time.time()
n, st = (run_rectools if rt else run_recbole)(A.model)
rec = {"model": A.model, "lib": "RecTools 0.19.0" if rt else "RecBole 1.2.1", "seed": A.seed, "settings": st,
       "threads": A.threads, "torch": torch.__version__, "epochs_max": EPOCHS, "epochs_run": len(SECS),
       "samples_per_epoch": n, "time_only": A.time_only, "note": A.note,
       "sec_per_epoch": float(np.median(SECS[1:] if len(SECS) > 1 else SECS)),
       "sec_first_epoch": SECS[0], "wall": time.time() - t00, "load_before": load0, "load_after": os.getloadavg(),
       "final_train_loss": LOSS[-1], "train_items": int(len(TRAIN_ITEMS)), **EXTRA}
if not A.time_only:
    fin = CURVE[-1]; b = max(CURVE, key=lambda c: c[1]["ndcg10"])
    rec.update(test_hr10_end=fin[2]["hr10"], test_ndcg10_end=fin[2]["ndcg10"], val_ndcg10_end=fin[1]["ndcg10"],
               val_hr10_end=fin[1]["hr10"], best_epoch=b[0], test_hr10_best=b[2]["hr10"], test_ndcg10_best=b[2]["ndcg10"],
               val_ndcg10_best=b[1]["ndcg10"], val_hr10_best=b[1]["hr10"],
               curve=[[e, round(v["ndcg10"], 5), round(t["ndcg10"], 5)] for e, v, t in CURVE])
with open(A.out, "a") as f:
    f.write(json.dumps(rec) + "\n")
print(json.dumps({k: v for k, v in rec.items() if k != "curve"}), flush=True)
