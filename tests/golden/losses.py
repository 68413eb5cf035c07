"""Golden numbers for the training objectives, from PyTorch's own losses.

Makes losses.safetensors beside this file (p = 7 predictions, n = 10 items = the whole catalogue, d = 8, k = 3):
  h (7,8), e (10,8)        states, items
  target (7,) i64, negatives (7,3) i64
  counts (10,) i64         training events of each item (log q = log(counts / sum))
  <case>/loss (1,), <case>/grad_h, <case>/grad_e
Cases (each a mean over the predictions):
  full           cross-entropy over all 10 items
  full_cosine    the same over cosines / 0.07
  sampled        cross-entropy among label and negatives, all minus log q (negatives drawn by popularity)
  sampled_raw    the same without the correction
  bce            binary cross-entropy with logits, mean over label and negatives
  gbce           the same with the label's probability to the power beta (gSASRec: k = 3 of 10 items, t = 0.75)
  gbce_0, gbce_1 t = 0 (equal to bce) and t = 1
  bpr            -log sigmoid(label - negative), mean over negatives
  bpr_temperature the same with scores / 0.5

Made with torch 2.15.0, safetensors.
Run: python losses.py      (python with: pip install torch numpy safetensors)
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(21)
draw = lambda *s: torch.randn(*s, generator=generator).to(torch.float32).to(torch.float64)
P, N, D, K = 7, 10, 8, 3
H, E = draw(P, D), draw(N, D)
TARGET = torch.tensor([1, 4, 4, 0, 9, 7, 2])
NEGATIVES = torch.tensor([[0, 5, 5], [3, 1, 0], [9, 8, 8], [2, 4, 6], [0, 1, 3], [6, 6, 6], [5, 9, 1]])
COUNTS = torch.tensor([5, 1, 9, 2, 2, 30, 4, 1, 1, 12])
LOG_Q = torch.log(COUNTS.double() / COUNTS.sum())
out = {"h": H, "e": E, "target": TARGET, "negatives": NEGATIVES, "counts": COUNTS}


def case(name, loss):
    h, e = H.clone().requires_grad_(), E.clone().requires_grad_()
    value = loss(h, e)
    value.backward()
    out[f"{name}/loss"], out[f"{name}/grad_h"], out[f"{name}/grad_e"] = value.detach().reshape(1), h.grad, e.grad


ids = torch.cat([TARGET[:, None], NEGATIVES], 1)
first = torch.zeros(P, dtype=torch.long)
scores = lambda h, e: torch.einsum("pd,pkd->pk", h, e[ids])
is_label = torch.zeros(P, K + 1, dtype=torch.float64)
is_label[:, 0] = 1.0


def gbce(t):
    alpha = K / (N - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)

    def loss(h, e):
        s = scores(h, e)
        label = torch.clamp(torch.sigmoid(s[:, :1]), 1e-300, 1.0) ** beta
        # the authors' way: a logit whose sigmoid is sigmoid(s)^beta
        s = torch.cat([torch.log(label / (1 - label)), s[:, 1:]], 1)
        return F.binary_cross_entropy_with_logits(s, is_label)

    return loss


def bpr(temperature):
    def loss(h, e):
        s = scores(h, e) / temperature
        return -F.logsigmoid(s[:, :1] - s[:, 1:]).mean()

    return loss


case("full", lambda h, e: F.cross_entropy(h @ e.T, TARGET))
case("full_cosine", lambda h, e: F.cross_entropy(F.normalize(h) @ F.normalize(e).T / 0.07, TARGET))
case("sampled", lambda h, e: F.cross_entropy(scores(h, e) - LOG_Q[ids], first))
case("sampled_raw", lambda h, e: F.cross_entropy(scores(h, e), first))
case("bce", lambda h, e: F.binary_cross_entropy_with_logits(scores(h, e), is_label))
case("gbce", gbce(0.75))
case("gbce_0", gbce(0.0))
case("gbce_1", gbce(1.0))
case("bpr", bpr(1.0))
case("bpr_temperature", bpr(0.5))
assert torch.allclose(out["gbce_0/loss"], out["bce/loss"])

as32 = lambda v: v.contiguous() if v.dtype == torch.int64 else v.to(torch.float32).contiguous()
save_file({k: as32(v) for k, v in out.items()}, HERE / "losses.safetensors")
print({k: round(float(v), 6) for k, v in out.items() if k.endswith("/loss")})
