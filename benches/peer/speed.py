"""The PyTorch side of `morec bench speed`: the same work, written as one would write it in PyTorch.

    python3 -m venv peer && peer/bin/pip install torch transformers sentence-transformers onnxruntime onnx pillow
    morec bench speed --python peer/bin/python

Reads a case as one line of JSON, answers {"ready"}; then `run N` -> times and values, `end` -> peak memory.
"""

import json
import os
import resource
import sys
import time

from importlib.metadata import version

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
torch.manual_seed(1)


def adamw(params, lr):
    return torch.optim.AdamW(params, lr=lr, weight_decay=0.01, fused=True)


def bert(dim, layers, heads, rows, dropout):
    from transformers import AutoModel, BertConfig

    config = BertConfig(
        vocab_size=rows, hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * dim, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )
    return AutoModel.from_config(config, add_pooling_layer=False, attn_implementation="sdpa")


class Text:
    """Forward, backward, AdamW of a text encoder; no padding, so no mask."""

    def __init__(self, s):
        self.s = s
        self.model = bert(s["dim"], s["layers"], s["heads"], s["rows"], s["dropout"]).train()
        self.opt = adamw(self.model.parameters(), 1e-5)
        self.target = (torch.arange(s["batch"]) + 1) % s["batch"]

    def step(self):
        s = self.s
        ids = torch.randint(0, s["rows"], (s["batch"], s["len"]))
        self.opt.zero_grad(set_to_none=True)
        pooled = self.model(input_ids=ids).last_hidden_state.mean(1)
        F.cross_entropy(pooled @ pooled.T, self.target).backward()
        self.opt.step()


class Attention(nn.Module):
    def __init__(self, d, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.w_Q, self.w_K, self.w_V, self.fc = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.layer_norm = nn.LayerNorm(d, eps=1e-6)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, mask):
        b, l, d = x.shape
        q, k, v = (w(x).view(b, l, self.heads, -1).transpose(1, 2) for w in (self.w_Q, self.w_K, self.w_V))
        p = self.dropout if self.training else 0.0
        if mask is None:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        y = self.fc(y.transpose(1, 2).reshape(b, l, d))
        return self.layer_norm(x + self.drop(y))


class FeedForward(nn.Module):
    def __init__(self, d, dropout):
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.layer_norm = nn.LayerNorm(d, eps=1e-6)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        return self.layer_norm(x + self.drop(self.w_2(F.relu(self.w_1(x)))))


class Block(nn.Module):
    def __init__(self, d, heads, dropout):
        super().__init__()
        self.multi_head_attention = Attention(d, heads, dropout)
        self.feed_forward = FeedForward(d, dropout)

    def forward(self, x, mask):
        return self.feed_forward(self.multi_head_attention(x, mask))


class Sasrec(nn.Module):
    """MoRec's: learned positions, post-LN."""

    def __init__(self, d, layers, heads, length, dropout):
        super().__init__()
        self.position_embedding = nn.Embedding(length, d)
        self.layer_norm = nn.LayerNorm(d, eps=1e-6)
        self.drop = nn.Dropout(dropout)
        self.transformer_blocks = nn.ModuleList(Block(d, heads, dropout) for _ in range(layers))

    def forward(self, x, mask=None):
        x = self.drop(self.layer_norm(x + self.position_embedding.weight))
        for block in self.transformer_blocks:
            x = block(x, mask)
        return x


def in_batch_loss(users, items, slots, real, log_share):
    """In-batch debiased softmax: one column a slot. users (b, l, d), items (b, l+1, d), slots (b, l+1), real (b, l+1)."""
    b, l, d = users.shape
    logits = users.reshape(-1, d) @ items.reshape(-1, d).T - log_share[slots.reshape(-1)]
    logits = logits.view(b, l, b, l + 1)
    # A user's own items are no negatives, nor are padding slots; the label is put back.
    own = (slots[:, :, None] == slots.reshape(1, 1, -1)).any(1)
    banned = own | ~real.reshape(1, -1)
    mask = banned[:, None, :].expand(b, l, b * (l + 1)).clone().view(b, l, b, l + 1)
    rows, pos = torch.arange(b)[:, None].expand(b, l), torch.arange(l)[None, :].expand(b, l)
    mask[rows, pos, rows, pos + 1] = False
    logits = logits.masked_fill(mask, -1e4).view(b * l, -1)
    target = (rows * (l + 1) + pos + 1).reshape(-1)
    keep = (real[:, 1:] & real[:, :-1]).reshape(-1)
    return F.cross_entropy(logits[keep], target[keep])


class SasrecStep:
    def __init__(self, s):
        self.s = s
        self.items = nn.Embedding(s["rows"], s["dim"])
        nn.init.xavier_normal_(self.items.weight)
        self.user = Sasrec(s["dim"], s["layers"], s["heads"], s["len"], s["dropout"]).train()
        self.opt = adamw([*self.items.parameters(), *self.user.parameters()], 1e-3)
        self.share = torch.full((s["rows"],), -torch.log(torch.tensor(float(s["rows"]))))

    def step(self):
        s = self.s
        slots = torch.randint(0, s["rows"], (s["batch"], s["len"] + 1))
        self.opt.zero_grad(set_to_none=True)
        items = self.items(slots)
        users = self.user(items[:, :-1])
        in_batch_loss(users, items, slots, torch.ones_like(slots, dtype=torch.bool), self.share).backward()
        self.opt.step()


class Morec:
    """The plain script: every slot of the batch through the encoder, padded to max_tokens."""

    def __init__(self, s):
        from safetensors.torch import load_file
        from transformers import AutoModel, BertConfig

        self.s, self.at = s, 0
        self.frozen = s["kind"] == "morec-frozen"
        given = json.load(open(os.path.join(s["exchange"], "batches.json")))
        values = load_file(os.path.join(s["exchange"], "model.safetensors"))
        self.max_tokens, self.windows = given["max_tokens"], given["windows"]
        rows = given["tokens"] + [[]]  # one more: the padding item
        self.ids = torch.zeros(len(rows), self.max_tokens, dtype=torch.long)
        self.attend = torch.zeros(len(rows), self.max_tokens, dtype=torch.long)
        for i, row in enumerate(rows):
            self.ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
            self.attend[i, : len(row)] = 1
        self.attend[-1, 0] = 1
        self.share = torch.tensor(given["log_share"] + [0.0])
        config = BertConfig(**given["encoder_config"])
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = s["dropout"]
        self.encoder = AutoModel.from_config(config, add_pooling_layer=False, attn_implementation="sdpa")
        self.projection = nn.Linear(config.hidden_size, s["dim"])
        self.user = Sasrec(s["dim"], s["layers"], s["heads"], s["len"], s["dropout"])
        for module, prefix in (
            (self.encoder, "item_encoder.text.model."),
            (self.projection, "item_encoder.text.projection."),
            (self.user, "user_encoder.transformer_encoder."),
        ):
            own = {k[len(prefix):]: v for k, v in values.items() if k.startswith(prefix)}
            missing = module.load_state_dict(own, strict=False).missing_keys
            assert all("position_ids" in k or "token_type_ids" in k for k in missing), missing
        self.encoder.requires_grad_(not self.frozen)
        params = [*self.encoder.parameters(), *self.projection.parameters(), *self.user.parameters()]
        self.opt = adamw([p for p in params if p.requires_grad], 1e-4)

    def step(self):
        s = self.s
        windows = self.windows[self.at % len(self.windows)]
        self.at += 1
        pad = len(self.ids) - 1
        width = s["len"] + 1
        slots = torch.tensor([[pad] * (width - len(w)) + w for w in windows])
        real = slots != pad
        self.opt.zero_grad(set_to_none=True)
        flat = slots.reshape(-1)
        attend = self.attend[flat]
        with torch.set_grad_enabled(not self.frozen):
            hidden = self.encoder(input_ids=self.ids[flat], attention_mask=attend).last_hidden_state
            weight = attend[:, :, None].float()
            pooled = (hidden * weight).sum(1) / weight.sum(1)
        items = F.gelu(self.projection(pooled)).view(len(windows), width, -1)
        causal = torch.tril(torch.ones(s["len"], s["len"], dtype=torch.bool))
        mask = causal[None, None] & real[:, None, None, :-1]
        mask = mask | torch.eye(s["len"], dtype=torch.bool)  # a padding slot sees itself: no NaN
        users = self.user(items[:, :-1], mask)
        loss = in_batch_loss(users, items, slots, real, self.share)
        loss.backward()
        self.opt.step()
        return loss.item()


def titles(s):
    return json.load(open(os.path.join(s["exchange"], "texts.json")))


class Encode:
    def __init__(self, s):
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer

        word = Transformer(s["model"], max_seq_length=256)
        self.model = SentenceTransformer(modules=[word, Pooling(word.get_word_embedding_dimension(), "mean")], device="cpu")
        self.texts = titles(s)

    def step(self):
        rows = self.model.encode(self.texts, show_progress_bar=False)
        return float(abs(rows[0]).mean())


class EncodeOnnx:
    """ONNX Runtime on an exported graph, texts sorted by length, 32 a batch."""

    def __init__(self, s):
        import onnxruntime as ort
        from transformers import AutoModel
        from tokenizers import Tokenizer

        path = os.path.join(s["exchange"], "encoder.onnx")
        model = AutoModel.from_pretrained(s["model"], attn_implementation="eager").eval()

        class Pooled(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, input_ids, attention_mask):
                hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
                weight = attention_mask[:, :, None].float()
                return (hidden * weight).sum(1) / weight.sum(1)

        example = (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))
        torch.onnx.export(
            Pooled(), example, path, input_names=["input_ids", "attention_mask"], output_names=["pooled"], dynamo=False,
            opset_version=17,
            dynamic_axes={"input_ids": {0: "n", 1: "l"}, "attention_mask": {0: "n", 1: "l"}, "pooled": {0: "n"}},
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(os.path.join(s["model"], "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.no_padding()
        self.texts = titles(s)

    def step(self):
        import numpy as np

        rows = [e.ids for e in self.tokenizer.encode_batch(self.texts)]
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        out = [None] * len(rows)
        for at in range(0, len(order), 32):
            part = order[at : at + 32]
            width = len(rows[part[0]])
            ids = np.zeros((len(part), width), dtype=np.int64)
            attend = np.zeros_like(ids)
            for r, i in enumerate(part):
                ids[r, : len(rows[i])] = rows[i]
                attend[r, : len(rows[i])] = 1
            pooled = self.session.run(None, {"input_ids": ids, "attention_mask": attend})[0]
            for r, i in enumerate(part):
                out[i] = pooled[r]
        return float(abs(out[0]).mean())


class Rank:
    """Scores in blocks of users, the top 10 of each."""

    def __init__(self, s):
        self.users, self.items = torch.rand(s["batch"], s["dim"]) - 0.5, torch.rand(s["rows"], s["dim"]) - 0.5

    def step(self):
        with torch.no_grad():
            for users in self.users.split(1000):
                torch.topk(users @ self.items.T, 10)


class Images:
    """Forward, backward, AdamW of an image encoder, or its output alone; one batch of random images, made once."""

    def __init__(self, s):
        self.train = not s["kind"].endswith("-encode")
        self.model = self.build(s).train(self.train)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # statistics frozen; weight and bias are trained
        self.images = torch.randn(s["batch"], 3, 224, 224)
        self.target = (torch.arange(s["batch"]) + 1) % s["batch"]
        if self.train:
            self.opt = adamw(self.model.parameters(), 1e-5)

    def step(self):
        if not self.train:
            with torch.inference_mode():
                self.pooled()
            return
        self.opt.zero_grad(set_to_none=True)
        pooled = self.pooled()
        F.cross_entropy(pooled @ pooled.T, self.target).backward()
        self.opt.step()


class Vit(Images):
    """The CLS row is the vector; `len` is the side of a patch."""

    def build(self, s):
        from transformers import AutoModel, ViTConfig

        config = ViTConfig(
            hidden_size=s["dim"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"],
            intermediate_size=4 * s["dim"], image_size=224, patch_size=s["len"],
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
        return AutoModel.from_config(config, add_pooling_layer=False, attn_implementation="sdpa")

    def pooled(self):
        return self.model(pixel_values=self.images).last_hidden_state[:, 0]


class ResNet(Images):
    """ResNet-50."""

    def build(self, s):
        from transformers import AutoModel, ResNetConfig

        config = ResNetConfig(
            embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3], layer_type="bottleneck",
        )
        return AutoModel.from_config(config)

    def pooled(self):
        return self.model(pixel_values=self.images).pooler_output.flatten(1)


class Decode:
    """Image files -> 224 x 224 RGB, with Pillow in one process."""

    def __init__(self, s):
        self.files = [os.path.join(s["data"], f) for f in sorted(os.listdir(s["data"]))[: s["batch"]]]
        assert len(self.files) == s["batch"], f"{s['data']} holds {len(self.files)} files"

    def step(self):
        import numpy as np
        from PIL import Image

        rows = [np.asarray(Image.open(f).convert("RGB").resize((224, 224), Image.BICUBIC)) for f in self.files]
        np.stack(rows)


CASES = {
    "text": Text, "sasrec": SasrecStep, "morec": Morec, "morec-frozen": Morec,
    "encode": Encode, "encode-onnx": EncodeOnnx, "rank": Rank,
    "vit": Vit, "vit-encode": Vit, "resnet": ResNet, "resnet-encode": ResNet, "decode": Decode,
}


def main():
    out = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    spec = json.loads(sys.stdin.readline())
    case = CASES[spec["kind"]](spec)

    def say(value):
        out.write(json.dumps(value) + "\n")
        out.flush()

    names = ["torch", "transformers"]
    names += {
        "encode": ["sentence-transformers"], "encode-onnx": ["onnxruntime"], "decode": ["pillow"],
    }.get(spec["kind"], [])
    say({"ready": True, "versions": {n: version(n) for n in names}})
    for line in sys.stdin:
        if not line.startswith("run "):
            break
        seconds, values = [], []
        for _ in range(int(line[4:])):
            start = time.perf_counter()
            values.append(case.step())
            seconds.append(time.perf_counter() - start)
        say({"seconds": seconds, "values": values})
    say({"peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})


main()
