"""Golden numbers for the BERT and RoBERTa text encoders: forward and every gradient, from Hugging Face.

Makes, beside this file, for NAME in bert_small, roberta_small:
  NAME.safetensors   weight/<hf name>  every parameter, no pooler, no `bert.`/`roberta.` prefix
                     ids (5,12) i64    right-padded; pad id 0 (BERT), 1 (RoBERTa); no real token is the pad id
                     lengths (5,) i64  7 3 12 1 9
                     hidden (5,12,32)  last_hidden_state, rows at padding set to 0
                     mean (5,32)       mean of the hidden rows at real tokens
                     cls (5,32)        hidden row of the first token
                     probe_mean, probe_cls (5,32)
                     loss (1,)         sum(mean * probe_mean) + sum(cls * probe_cls)
                     grad/<hf name>    d loss / d parameter (all of them; zero where unused)
  NAME_config.json   the model's config.json

Token types are all 0. Attention is bidirectional over real tokens. Eval mode, no dropout. RoBERTa positions
count from pad id + 1 = 2. Weights are rounded to float32, everything after that is float64, stored as float32.

Made with torch 2.15.0, transformers 5.23.0, safetensors.
Run: python bert.py      (python with: pip install torch transformers safetensors)
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

HERE = Path(__file__).resolve().parent
torch.set_num_threads(1)
LENGTHS = [7, 3, 12, 1, 9]
SIZES = dict(
    vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    hidden_act="gelu", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
)


def perturb(model, gen):
    """Move every parameter off its initial value; embeddings, queries and keys more, so attention is not flat."""
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            big = name.endswith("_embeddings.weight") or ".query." in name or ".key." in name
            base = torch.ones_like(p) if name.endswith("LayerNorm.weight") else torch.zeros_like(p)
            p.copy_(base + torch.randn(p.shape, generator=gen) * (0.3 if big else 0.1))
    return model.double().eval()


def make(name, model, pad, first, seed):
    gen = torch.Generator().manual_seed(seed)
    model = perturb(model, gen)
    width = max(LENGTHS)
    ids = torch.full((len(LENGTHS), width), pad)
    for row, n in enumerate(LENGTHS):
        ids[row, :n] = torch.randint(2, SIZES["vocab_size"], (n,), generator=gen)
        ids[row, 0] = first
    real = torch.arange(width)[None] < torch.tensor(LENGTHS)[:, None]

    out = model(input_ids=ids, attention_mask=real.long(), output_attentions=True)
    hidden = out.last_hidden_state * real[..., None]
    mean = hidden.sum(1) / real.sum(1, keepdim=True)
    cls = hidden[:, 0]
    probe_mean = torch.randn(mean.shape, generator=gen).double()
    probe_cls = torch.randn(cls.shape, generator=gen).double()
    loss = (mean * probe_mean).sum() + (cls * probe_cls).sum()
    loss.backward()

    tensors = {"ids": ids, "lengths": torch.tensor(LENGTHS)}
    floats = dict(hidden=hidden, mean=mean, cls=cls, probe_mean=probe_mean, probe_cls=probe_cls, loss=loss.reshape(1))
    for key, p in model.named_parameters():
        floats["weight/" + key] = p
        floats["grad/" + key] = torch.zeros_like(p) if p.grad is None else p.grad
    tensors.update({k: v.detach().float().contiguous() for k, v in floats.items()})
    save_file(tensors, HERE / f"{name}.safetensors")

    config = model.config.to_dict()
    config["architectures"] = [type(model).__name__]
    (HERE / f"{name}_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    peak = out.attentions[-1][2].max(-1).values.mean().item()
    print(f"{name}: loss {loss.item():.6f}, mean attention peak over 12 keys {peak:.3f}, {len(tensors)} tensors")


bert = BertConfig(**SIZES, max_position_embeddings=40, type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0)
make("bert_small", BertModel(bert, add_pooling_layer=False), pad=0, first=1, seed=1)
roberta = RobertaConfig(
    **SIZES, max_position_embeddings=42, type_vocab_size=1, layer_norm_eps=1e-5,
    pad_token_id=1, bos_token_id=0, eos_token_id=2,
)
make("roberta_small", RobertaModel(roberta, add_pooling_layer=False), pad=1, first=0, seed=2)
