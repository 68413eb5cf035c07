"""Golden numbers for the user encoders, from PyTorch's own modules (nn.GRU, nn.MultiheadAttention, F.conv2d, …).

Makes user_encoders.safetensors beside this file (d = 8, 2 heads, 2 layers, L = 6, no dropout; histories of 4, 2, 5
events, users 2, 0, 1 of 3, packed in that order):
  x (11,8)                the items' vectors
  probe (11,8)            the loss is sum(probe * states)
  <case>/weight/<name>    our names below the user encoder's scope
  <case>/out (11,8)       states
  <case>/grad/<name>, <case>/grad_x
Cases: sasrec_pre, sasrec_original, bert4rec_post, bert4rec_pre (events 1, 5 and 10 hidden), gru4rec, nextitnet, caser,
caser_user, mean, dssm, dssm_user. (Post-LN SASRec has a file of its own.)

Each history is computed alone, without any padding of events. Where an encoder has a fixed room (Caser's window of 3,
the convolutions' reach) zeros stand before the first event. Caser and GRU4Rec follow RecBole 1.2.1, SASRec "original"
RecTools 0.19 and the authors (MultiheadAttention over a normalised query), NextItNet block (b) of RecBole.

Weights are rounded to float32, everything after that is float64, stored as float32.

Made with torch 2.15.0, safetensors.
Run: python user_encoders.py      (python with: pip install torch numpy safetensors)
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
torch.set_num_threads(1)
D, HEADS, LAYERS, L, WINDOW, NH, NV, KERNEL = 8, 2, 2, 6, 3, 3, 2, 3
DILATIONS = [1, 4]
LENGTHS, USERS, HIDDEN = [4, 2, 5], [2, 0, 1], [1, 5, 10]
T = sum(LENGTHS)
generator = torch.Generator().manual_seed(20)
out = {}


def draw(*shape, scale=0.5):
    """Random values that float32 holds exactly, as float64."""
    return (torch.randn(*shape, generator=generator) * scale).to(torch.float32).to(torch.float64)


X, PROBE = draw(T, D, scale=1.0), draw(T, D, scale=1.0)
out["x"], out["probe"] = X, PROBE


def norm(x, w, name, eps):
    return F.layer_norm(x, (D,), w[name + ".weight"], w[name + ".bias"], eps)


def norm_shapes(name):
    return {name + ".weight": (D,), name + ".bias": (D,)}


def linear_shapes(name, i, o, bias=True):
    return {name + ".weight": (o, i)} | ({name + ".bias": (o,)} if bias else {})


def case(name, shapes, states):
    """states(w, x (l,d), user, first row) -> (l,d), for one history."""
    w = {k: (1.0 if "norm" in k or ".ln" in k else 0.0) * torch.ones(s, dtype=torch.float64) + draw(*s) for k, s in shapes.items()}
    w = {k: v.to(torch.float32).to(torch.float64).requires_grad_() for k, v in w.items()}
    x = X.clone().requires_grad_()
    rows, at = [], 0
    for length, user in zip(LENGTHS, USERS):
        rows.append(states(w, x[at : at + length], user, at))
        at += length
    y = torch.cat(rows)
    (y * PROBE).sum().backward()
    out[f"{name}/out"] = y.detach()
    for k, v in w.items():
        out[f"{name}/weight/{k}"] = v.detach()
        assert v.grad is not None and v.grad.abs().sum() > 0, k
        out[f"{name}/grad/{k}"] = v.grad
    if x.grad is not None:
        out[f"{name}/grad_x"] = x.grad


# --- transformers -----------------------------------------------------------------------------------------------


def stack_shapes(slots, extra):
    t = "transformer_encoder."
    s = {t + "position_embedding.weight": (slots, D)} | norm_shapes(t + "layer_norm") | extra
    for i in range(LAYERS):
        a, f = f"{t}transformer_blocks.{i}.multi_head_attention.", f"{t}transformer_blocks.{i}.feed_forward."
        for n in ["w_Q", "w_K", "w_V", "fc"]:
            s |= linear_shapes(a + n, D, D, bias=False)
        s |= norm_shapes(a + "layer_norm") | norm_shapes(f + "layer_norm")
        s |= linear_shapes(f + "w_1", D, 4 * D) | linear_shapes(f + "w_2", 4 * D, D)
    return s


def attention(q, k, v, causal):
    split = lambda t: t.view(len(t), HEADS, D // HEADS).transpose(0, 1)[None]
    y = F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=causal)
    return y[0].transpose(0, 1).reshape(-1, D)


def stack(w, x, slots, causal, pre, inner):
    t = "transformer_encoder."
    x = x + w[t + "position_embedding.weight"][slots - len(x) :]
    if not pre:
        x = norm(x, w, t + "layer_norm", 1e-6)
    for i in range(LAYERS):
        a, f = f"{t}transformer_blocks.{i}.multi_head_attention.", f"{t}transformer_blocks.{i}.feed_forward."
        m = lambda n, v: F.linear(v, w[a + n + ".weight"])
        attend = lambda v: m("fc", attention(m("w_Q", v), m("w_K", v), m("w_V", v), causal))
        dense = lambda n, v: F.linear(v, w[f + n + ".weight"], w[f + n + ".bias"])
        forward = lambda v: dense("w_2", inner(dense("w_1", v)))
        if pre:
            x = x + attend(norm(x, w, a + "layer_norm", 1e-6))
            x = x + forward(norm(x, w, f + "layer_norm", 1e-6))
        else:
            x = norm(x + attend(x), w, a + "layer_norm", 1e-6)
            x = norm(x + forward(x), w, f + "layer_norm", 1e-6)
    return norm(x, w, t + "layer_norm", 1e-6) if pre else x


case("sasrec_pre", stack_shapes(L, {}), lambda w, x, u, at: stack(w, x, L, True, True, torch.relu))


def bert4rec(pre):
    def states(w, x, user, at):
        rows = [w["mask"] if at + i in HIDDEN else v for i, v in enumerate(x)]
        return stack(w, torch.stack(rows), L + 1, False, pre, F.gelu)

    return states


for tag in ["post", "pre"]:
    case(f"bert4rec_{tag}", stack_shapes(L + 1, {"mask": (D,)}), bert4rec(tag == "pre"))


def original_shapes():
    s = {"pos_emb.weight": (L, D)} | norm_shapes("last_layernorm")
    for i in range(LAYERS):
        for n in ["query", "key", "value", "out_proj"]:
            s |= linear_shapes(f"attention_layers.{i}.{n}", D, D)
        s |= linear_shapes(f"forward_layers.{i}.conv1", D, D) | linear_shapes(f"forward_layers.{i}.conv2", D, D)
        s |= norm_shapes(f"attention_layernorms.{i}") | norm_shapes(f"forward_layernorms.{i}")
    return s


def original(w, x, user, at):
    x = x + w["pos_emb.weight"][L - len(x) :]
    mask = torch.triu(torch.ones(len(x), len(x), dtype=torch.bool), diagonal=1)
    for i in range(LAYERS):
        a, f = f"attention_layers.{i}.", f"forward_layers.{i}."
        q = norm(x, w, f"attention_layernorms.{i}", 1e-8)
        y, _ = F.multi_head_attention_forward(
            q[:, None], x[:, None], x[:, None], D, HEADS,
            torch.cat([w[a + n + ".weight"] for n in ["query", "key", "value"]]),
            torch.cat([w[a + n + ".bias"] for n in ["query", "key", "value"]]),
            None, None, False, 0.0, w[a + "out_proj.weight"], w[a + "out_proj.bias"], attn_mask=mask,
        )
        x = q + y[:, 0]
        y = norm(x, w, f"forward_layernorms.{i}", 1e-8)
        z = torch.relu(F.linear(y, w[f + "conv1.weight"], w[f + "conv1.bias"]))
        x = y + F.linear(z, w[f + "conv2.weight"], w[f + "conv2.bias"])
    return norm(x, w, "last_layernorm", 1e-8)


case("sasrec_original", original_shapes(), original)

# --- recurrent and convolutional ----------------------------------------------------------------------------------

shapes = linear_shapes("dense", D, D)
for i in range(LAYERS):
    shapes |= {f"gru_layers.{i}.weight_ih": (3 * D, D), f"gru_layers.{i}.weight_hh": (3 * D, D)}


def gru4rec(w, x, user, at):
    gru = nn.GRU(D, D, LAYERS, bias=False, batch_first=True).double()
    names = {}
    for i in range(LAYERS):
        names[f"weight_ih_l{i}"] = w[f"gru_layers.{i}.weight_ih"]
        names[f"weight_hh_l{i}"] = w[f"gru_layers.{i}.weight_hh"]
    y, _ = torch.func.functional_call(gru, names, (x[None],))
    return F.linear(y[0], w["dense.weight"], w["dense.bias"])


case("gru4rec", shapes, gru4rec)

shapes = linear_shapes("final_layer", D, D)
for i in range(LAYERS):
    for j in ["1", "2"]:
        shapes |= linear_shapes(f"residual_blocks.{i}.conv{j}", KERNEL * D, D)
        shapes |= norm_shapes(f"residual_blocks.{i}.ln{j}")


def nextitnet(w, x, user, at):
    for i in range(LAYERS):
        y = x
        for j, dilation in enumerate([DILATIONS[i], 2 * DILATIONS[i]]):
            name = f"residual_blocks.{i}."
            # ours is (out, kernel * in), PyTorch's (out, in, 1, kernel)
            weight = w[f"{name}conv{j + 1}.weight"].view(D, KERNEL, D).permute(0, 2, 1)[:, :, None]
            padded = F.pad(y.T[None, :, None], ((KERNEL - 1) * dilation, 0, 0, 0))
            y = F.conv2d(padded, weight, w[f"{name}conv{j + 1}.bias"], dilation=(1, dilation))[0, :, 0].T
            y = torch.relu(norm(y, w, f"{name}ln{j + 1}", 1e-8))
        x = x + y
    return F.linear(x, w["final_layer.weight"], w["final_layer.bias"])


case("nextitnet", shapes, nextitnet)


def caser_shapes(user):
    s = linear_shapes("conv_v", WINDOW, NV) | linear_shapes("fc1", NV * D + NH * WINDOW, D)
    s |= linear_shapes("fc2", 2 * D if user else D, D)
    for h in range(1, WINDOW + 1):
        s |= linear_shapes(f"conv_h.{h - 1}", h * D, NH)
    return s | ({"user_embedding.weight": (3, D)} if user else {})


def caser(with_user):
    def states(w, x, user, at):
        rows = []
        for i in range(len(x)):
            # one window after the other, as the reference sees it: (1, 1, window, d)
            window = F.pad(x[: i + 1], (0, 0, max(0, WINDOW - i - 1), 0))[-WINDOW:][None, None]
            v = F.conv2d(window, w["conv_v.weight"].view(NV, 1, WINDOW, 1), w["conv_v.bias"]).view(1, -1)
            hs = []
            for h in range(1, WINDOW + 1):
                weight = w[f"conv_h.{h - 1}.weight"].view(NH, 1, h, D)
                y = torch.relu(F.conv2d(window, weight, w[f"conv_h.{h - 1}.bias"]).squeeze(3))
                hs.append(F.max_pool1d(y, y.size(2)).squeeze(2))
            z = torch.relu(F.linear(torch.cat([v] + hs, 1), w["fc1.weight"], w["fc1.bias"]))
            if with_user:
                z = torch.cat([z, w["user_embedding.weight"][user][None]], 1)
            rows.append(torch.relu(F.linear(z, w["fc2.weight"], w["fc2.bias"]))[0])
        return torch.stack(rows)

    return states


case("caser", caser_shapes(False), caser(False))
case("caser_user", caser_shapes(True), caser(True))

# --- without order ------------------------------------------------------------------------------------------------

running = lambda x: torch.stack([x[: i + 1].mean(0) for i in range(len(x))])
case("mean", {}, lambda w, x, u, at: running(x))


def tower(w, x):
    y = torch.tanh(F.linear(x, w["tower.0.weight"], w["tower.0.bias"]))
    return F.linear(y, w["tower.1.weight"], w["tower.1.bias"])


shapes = linear_shapes("tower.0", D, D) | linear_shapes("tower.1", D, D)
case("dssm", shapes, lambda w, x, u, at: tower(w, running(x)))
case(
    "dssm_user",
    shapes | {"user_embedding.weight": (3, D)},
    lambda w, x, u, at: tower(w, w["user_embedding.weight"][u].expand(len(x), D)),
)

save_file({k: v.to(torch.float32).contiguous() for k, v in out.items()}, HERE / "user_encoders.safetensors")
print(len(out), "tensors")
