"""Golden numbers for MoRec's SASRec user encoder and its in-batch debiased softmax, written naively in PyTorch.

Makes sasrec_inbatch.safetensors beside this file (U = 6 users, L = 5 inputs, d = 16, 2 heads, 2 blocks, 30 items):
  windows (6,6) i64       item ids, oldest first, left-padded with -1; window lengths 6 3 2 5 6 4.
                          Inputs are slots 0..4, targets slots 1..5; a position is real where its input is real.
  log_p (30,)             log of a random popularity distribution over all 30 items (sums to 1)
  weight/<name>           MoRec's names: item_encoder.id.weight (30,16), user_encoder.transformer_encoder.…
  hidden (6,5,16)         user encoder output, 0 at padded positions
  loss_slots (1,), nll_slots (6,5), grad_slots/<name>   one column a slot (MoRec's reference)
  loss_once  (1,), nll_once  (6,5), grad_once/<name>    one column a distinct item of the batch
nll_* is the cross-entropy of each position (0 at padded ones); loss_* is its mean over the 20 real positions.
`hidden` is the same for both. A padded slot feeds a zero vector as its item.

Score of (position, column) = h . E[item] - log_p[item]. For a row of user u, the columns that hold any of u's own
items (anywhere in the batch) are left out, except the label: slots, u's own slot j+1 (its other copies are left
out); once, the label item's one column. Padded slots are no columns.

Columns are left out exactly, as if -inf. MoRec's code writes -1e4; the script asserts that the two agree, and that
"slots" equals "once" with log(copies in the batch) added to each negative. Weights and log_p are rounded to
float32, everything after that is float64, stored as float32. Eval mode, no dropout.

Made with torch 2.15.0, safetensors.
Run: python sasrec_inbatch.py      (python with: pip install torch numpy safetensors)
"""

import math
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
torch.set_num_threads(1)
ITEMS, D, HEADS, BLOCKS, L = 30, 16, 2, 2, 5
WINDOWS = [  # items repeat inside a user (0: 7; 3: 4; 4: 2, 11) and across users (7, 3, 11, 2, 4, 20)
    [7, 3, 7, 9, 11, 7],
    [-1, -1, -1, 3, 7, 20],
    [-1, -1, -1, -1, 11, 3],
    [-1, 4, 4, 25, 2, 7],
    [2, 11, 2, 29, 11, 0],
    [-1, -1, 20, 13, 4, 7],
]
U = len(WINDOWS)


class MultiHeadAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.w_Q = nn.Linear(D, D, bias=False)
        self.w_K = nn.Linear(D, D, bias=False)
        self.w_V = nn.Linear(D, D, bias=False)
        self.fc = nn.Linear(D, D, bias=False)
        self.layer_norm = nn.LayerNorm(D, eps=1e-6)

    def forward(self, x, mask):
        b, l, _ = x.shape
        split = lambda t: t.view(b, l, HEADS, D // HEADS).transpose(1, 2)
        q, k, v = split(self.w_Q(x)), split(self.w_K(x)), split(self.w_V(x))
        p = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(D // HEADS) + mask, dim=-1)
        y = (p @ v).transpose(1, 2).reshape(b, l, D)
        return self.layer_norm(x + self.fc(y))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w_1 = nn.Linear(D, 4 * D)
        self.w_2 = nn.Linear(4 * D, D)
        self.layer_norm = nn.LayerNorm(D, eps=1e-6)

    def forward(self, x):
        return self.layer_norm(x + self.w_2(torch.relu(self.w_1(x))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.multi_head_attention = MultiHeadAttention()
        self.feed_forward = FeedForward()

    def forward(self, x, mask):
        return self.feed_forward(self.multi_head_attention(x, mask))


class TransformerEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.position_embedding = nn.Embedding(L, D)
        self.layer_norm = nn.LayerNorm(D, eps=1e-6)
        self.transformer_blocks = nn.ModuleList([Block() for _ in range(BLOCKS)])

    def forward(self, items, real):
        mask = torch.full((len(items), 1, L, L), -1e9, dtype=items.dtype)
        for u in range(len(items)):
            for i in range(L):
                for j in range(i + 1):
                    if real[u, j]:
                        mask[u, 0, i, j] = 0.0
        x = self.layer_norm(items + self.position_embedding.weight[None])
        for block in self.transformer_blocks:
            x = block(x, mask)
        return x


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.item_encoder = nn.ModuleDict({"id": nn.Embedding(ITEMS, D)})
        self.user_encoder = nn.ModuleDict({"transformer_encoder": TransformerEncoder()})

    def hidden(self, windows):
        table = self.item_encoder["id"].weight
        zero = torch.zeros(D, dtype=table.dtype)
        vectors = torch.stack([torch.stack([table[i] if i >= 0 else zero for i in w[:L]]) for w in windows])
        real = torch.tensor([[i >= 0 for i in w[:L]] for w in windows])
        return self.user_encoder["transformer_encoder"](vectors, real) * real[..., None]


def build(gen):
    model = Model()
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            base = 1.0 if name.endswith("layer_norm.weight") else 0.0
            std = 0.5 if "item_encoder" in name else 0.2
            p.copy_(base + std * torch.randn(p.shape, generator=gen))
    return model.double().eval()


def naive(model, log_p, kind):
    """Per-position cross-entropy over an explicit list of columns; returns (hidden, nll)."""
    table = model.item_encoder["id"].weight
    hidden = model.hidden(WINDOWS)
    slots = [(v, s) for v in range(U) for s in range(L + 1) if WINDOWS[v][s] >= 0]
    distinct = sorted({WINDOWS[v][s] for v, s in slots})
    nll = {}
    for u in range(U):
        own = {i for i in WINDOWS[u] if i >= 0}
        for j in range(L):
            if WINDOWS[u][j] < 0:
                continue
            target = WINDOWS[u][j + 1]
            columns = [target]  # the label is column 0
            if kind == "slots":
                columns += [WINDOWS[v][s] for v, s in slots if WINDOWS[v][s] not in own]
            else:
                columns += [i for i in distinct if i not in own]
            scores = torch.stack([hidden[u, j] @ table[i] - log_p[i] for i in columns])
            nll[u, j] = torch.logsumexp(scores, 0) - scores[0]
    return hidden, nll


def morec(model, log_p):
    """MoRec's own formulation: all slots as columns, -1e4 where masked, nn.CrossEntropyLoss."""
    flat = torch.tensor(WINDOWS).view(-1)
    vectors = model.item_encoder["id"].weight[flat.clamp(min=0)] * (flat >= 0)[:, None]
    logits = (model.hidden(WINDOWS).view(U * L, D) @ vectors.T - log_p[flat.clamp(min=0)]).view(U, L, -1).clone()
    logits[:, :, flat < 0] = -1e4
    for u in range(U):
        for j in range(L):
            for c in range(U * (L + 1)):
                if flat[c].item() in WINDOWS[u] and c != u * (L + 1) + j + 1:
                    logits[u, j, c] = -1e4
    label = torch.arange(U * (L + 1)).view(U, L + 1)[:, 1:]
    real = torch.tensor(WINDOWS)[:, :L] >= 0
    return nn.functional.cross_entropy(logits[real], label[real])


def once_with_copies(model, log_p):
    """The identity used for de-duplicated batches: distinct items, + log(copies) on negatives, not on the label."""
    table, hidden = model.item_encoder["id"].weight, model.hidden(WINDOWS)
    copies = Counter(i for w in WINDOWS for i in w if i >= 0)
    total = []
    for u in range(U):
        for j in range(L):
            if WINDOWS[u][j] >= 0:
                target = WINDOWS[u][j + 1]
                label = hidden[u, j] @ table[target] - log_p[target]
                rest = [hidden[u, j] @ table[i] - log_p[i] + math.log(m) for i, m in copies.items() if i not in WINDOWS[u]]
                total.append(torch.logsumexp(torch.stack([label] + rest), 0) - label)
    return torch.stack(total).mean()


def main():
    gen = torch.Generator().manual_seed(3)
    model = build(gen)
    log_p = torch.log_softmax(1.5 * torch.randn(ITEMS, generator=gen), 0).double()

    out = {"log_p": log_p}
    for name, p in model.named_parameters():
        out["weight/" + name] = p
    for kind in ["slots", "once"]:
        model.zero_grad()
        hidden, nll = naive(model, log_p, kind)
        loss = torch.stack(list(nll.values())).mean()
        loss.backward()
        table = torch.zeros(U, L, dtype=torch.float64)
        for (u, j), value in nll.items():
            table[u, j] = value.detach()
        out.update({"hidden": hidden, "loss_" + kind: loss.reshape(1), "nll_" + kind: table})
        for name, p in model.named_parameters():
            assert p.grad.abs().max() > 0, name
            out[f"grad_{kind}/{name}"] = p.grad.clone()
        print(f"loss_{kind} {loss.item():.12f} over {len(nll)} positions")
    for other in [morec(model, log_p), once_with_copies(model, log_p)]:
        assert abs(other.item() - out["loss_slots"].item()) < 1e-12, other.item()

    tensors = {k: v.detach().float().contiguous() for k, v in out.items()}
    tensors["windows"] = torch.tensor(WINDOWS)
    save_file(tensors, HERE / "sasrec_inbatch.safetensors")
    print(f"{len(tensors)} tensors")


main()
