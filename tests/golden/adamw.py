"""Golden numbers for AdamW and for clipping by the global norm, from torch.optim.AdamW.

Makes adamw.safetensors beside this file, for two tensors a (3,5) and b (7,), steps 1..6:
  init/{a,b}             the values before step 1
  grad/{step}/{a,b}      the gradient given at that step
  param/{step}/{a,b}     the values after that step
  clipped/{step}/{a,b}   the same, restarted from init, with clip_grad_norm_(1.0) over both before each step
  norm/{step} (1,)       the global gradient norm before clipping (some above 1, some below)

lr 1e-2, betas 0.9 / 0.999, eps 1e-8, weight decay 0.01 (decoupled, on both tensors). Initial values and gradients
are rounded to float32, everything after that is float64, stored as float32.

Made with torch 2.15.0, safetensors.
Run: python adamw.py      (python with: pip install torch numpy safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
torch.set_num_threads(1)
SHAPES = {"a": (3, 5), "b": (7,)}
SCALES = [1.0, 0.05, 3.0, 0.1, 0.0005, 0.7]  # of the gradient at each step

gen = torch.Generator().manual_seed(4)
init = {k: torch.randn(s, generator=gen) for k, s in SHAPES.items()}
grads = [{k: scale * torch.randn(s, generator=gen) for k, s in SHAPES.items()} for scale in SCALES]
out = {f"init/{k}": v for k, v in init.items()}

for label, clip in [("param", False), ("clipped", True)]:
    params = {k: torch.nn.Parameter(v.double()) for k, v in init.items()}
    adamw = torch.optim.AdamW(params.values(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    for step, grad in enumerate(grads, start=1):
        for k, p in params.items():
            p.grad = grad[k].double()
            out[f"grad/{step}/{k}"] = grad[k]
        if clip:
            norm = torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
            out[f"norm/{step}"] = norm.reshape(1)
            print(f"step {step}: norm {norm.item():.4f}")
        adamw.step()
        for k, p in params.items():
            out[f"{label}/{step}/{k}"] = p.detach().clone()

save_file({k: v.detach().float().contiguous() for k, v in out.items()}, HERE / "adamw.safetensors")
print(f"{len(out)} tensors")
