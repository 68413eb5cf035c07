"""Golden numbers for the image encoders: forward and every gradient, from Hugging Face's own modules.

Makes, in vision/ beside this file, for NAME in vit_small, mae_small, dinov2_small, dinov2_swiglu, clip_small,
resnet_basic, resnet_bottleneck, swin_small:
  NAME.safetensors   weight/<hub name>   every parameter, and BatchNorm's running_mean and running_var
                     pixels (3,3,H,W)    three images of normal noise
                     hidden              last_hidden_state: (3,tokens,d); ResNet (3,d,h,w)
                     cls (3,d)           ViT, MAE, DINOv2: row 0 of hidden (which is after the final norm)
                                         CLIP: pooler_output = post_layernorm of row 0; ResNet, Swin: left out
                     mean (3,d)          ViT, MAE, DINOv2: mean over all rows of hidden, the class token's included
                                         CLIP: the same; its hidden is *before* post_layernorm
                                         ResNet, Swin: mean over all positions (= pooler_output)
                     probe_cls, probe_mean (3,d)
                     loss (1,)           sum(cls * probe_cls) + sum(mean * probe_mean); no cls, no first term
                     grad/<hub name>     d loss / d parameter (all of them; zero where unused: pooler, mask_token)
                     the ResNets also, with BatchNorm in training mode, from the same weights and probe:
                     train/mean, train/loss, train/grad/<hub name>
                     train/after/<hub name>   running_mean, running_var after that one forward pass
  NAME_config.json   the model's config.json

<hub name> is the name in a checkpoint file of that class: what save_pretrained() writes, which for ViT, MAE, DINOv2
and Swin is not the name in memory of transformers 5. CLIP's get the `vision_model.` that published files have.
No position_ids, relative_position_index or num_batches_tracked.

All in eval mode without dropout, except train/. MAE keeps every patch, in order (mask ratio 0; its config file says
0.75 as the published ones do). Its position table, which MAE does not train, is random and has a gradient all the same.
dinov2_small has a 7x7 grid of positions, interpolated to the 4x4 of the image: bicubic, align_corners False, no
antialias, to the size itself (not by a scale factor). dinov2_swiglu is used at its own size, without interpolation.
Weights are rounded to float32, everything after that is float64, stored as float32: Hugging Face's softmax (all but
DINOv2) and interpolation go through float32, here they are made to stay in float64.

Made with torch 2.15.0, transformers 5.23.0, safetensors.
Run: python vision.py      (python with: pip install torch transformers safetensors)
"""

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel, SwinConfig, SwinModel,
    ViTConfig, ViTMAEConfig, ViTMAEModel, ViTModel,
)
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
OUT = Path(__file__).resolve().parent / "vision"
torch.set_num_threads(1)
BATCH = 3

softmax, interpolate = nn.functional.softmax, nn.functional.interpolate
nn.functional.softmax = lambda x, dim=None, dtype=None: softmax(x, dim=dim)
nn.functional.interpolate = lambda x, **options: interpolate(x.double(), **options)


def perturb(model, gen):
    """Give every parameter and running statistic a random value; queries and keys larger ones."""
    norms = {n for n, m in model.named_modules() if isinstance(m, (nn.LayerNorm, nn.BatchNorm2d))}
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            owner, _, kind = name.rpartition(".")
            x = torch.randn(p.shape, generator=gen)
            if owner in norms:
                p.copy_(x * 0.2 + (1 if kind == "weight" else 0))
            elif "lambda1" in name:
                p.copy_(x * 0.2 + 0.6)
            elif p.dim() in (2, 4) and kind == "weight" and "position" not in name:
                gain = 1.6 if "q_proj" in name or "k_proj" in name else 1.0
                p.copy_(x * gain / p[0].numel() ** 0.5)
            elif kind == "bias":
                p.copy_(x * 0.2)
            else:  # class and mask tokens, positions, the bias table of Swin
                p.copy_(x * 0.7)
            p.requires_grad_(True)
        for name, b in sorted(model.named_buffers()):
            if name.endswith("running_mean"):
                b.copy_(torch.randn(b.shape, generator=gen) * 0.3)
            elif name.endswith("running_var"):
                b.copy_(torch.rand(b.shape, generator=gen) + 0.5)
    return model.double().eval()


def as_saved(model):
    """The model's tensors under the names of its checkpoint file."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = load_file(Path(folder) / "model.safetensors")
    prefix = "vision_model." if isinstance(model, CLIPVisionModel) else ""
    return {prefix + k: v for k, v in tensors.items() if v.is_floating_point()}


def gradients(model):
    """The gradients under the names of the checkpoint file: saved in the place of the parameters."""
    values = {n: p.data for n, p in model.named_parameters()}
    for p in model.parameters():
        p.data = torch.zeros_like(p) if p.grad is None else p.grad
    saved = {k: v for k, v in as_saved(model).items() if "running_" not in k}
    for n, p in model.named_parameters():
        p.data = values[n]
    model.zero_grad()
    return saved


def run(model, pixels):
    """hidden, cls (or None), mean."""
    options = {}
    if isinstance(model, ViTMAEModel):
        patches = (model.config.image_size // model.config.patch_size) ** 2
        options["noise"] = torch.arange(patches).expand(BATCH, -1)
    out = model(pixels, **options)
    hidden = out.last_hidden_state
    if isinstance(model, ResNetModel):
        return hidden, None, out.pooler_output.flatten(1)
    if isinstance(model, SwinModel):
        assert torch.allclose(out.pooler_output, hidden.mean(1))
        return hidden, None, out.pooler_output
    cls = out.pooler_output if isinstance(model, CLIPVisionModel) else hidden[:, 0]
    return hidden, cls, hidden.mean(1)


def margin(model, pixels):
    """How near ReLU and max pooling come to their kinks; a float32 run has to fall on the same side of all."""
    near = []

    def relu(_, args):
        near.append(args[0].detach().abs().min().item())

    def pool(_, args):
        columns = nn.functional.unfold(nn.functional.pad(args[0].detach(), (1, 1, 1, 1)), 3, stride=2)
        top = columns.unflatten(1, (-1, 9)).topk(2, 2).values
        near.append((top[:, :, 0] - top[:, :, 1])[top[:, :, 0] > 0].min().item())

    hooks = [m.register_forward_pre_hook(relu) for m in model.modules() if isinstance(m, nn.ReLU)]
    hooks += [m.register_forward_pre_hook(pool) for m in model.modules() if isinstance(m, nn.MaxPool2d)]
    with torch.no_grad():
        model(pixels)
    for hook in hooks:
        hook.remove()
    return min(near, default=1.0)


def make(name, model, size, seed):
    gen = torch.Generator().manual_seed(seed)
    model = perturb(model, gen)
    pixels = torch.randn(BATCH, 3, *size, generator=gen).double()
    floats = {"weight/" + k: v for k, v in as_saved(model).items()}

    hidden, cls, mean = run(model, pixels)
    floats.update(pixels=pixels, hidden=hidden, mean=mean)
    probe = floats["probe_mean"] = torch.randn(mean.shape, generator=gen).double()
    loss = (mean * probe).sum()
    if cls is not None:
        probe_cls = torch.randn(cls.shape, generator=gen).double()
        floats.update(cls=cls, probe_cls=probe_cls)
        loss = loss + (cls * probe_cls).sum()
    loss.backward()
    floats["loss"] = loss.reshape(1)
    floats.update({"grad/" + k: v for k, v in gradients(model).items()})
    near = margin(model, pixels)

    if isinstance(model, ResNetModel):
        statistics = {n: b.clone() for n, b in model.named_buffers()}
        model.train()
        near = min(near, margin(model, pixels))
        model.load_state_dict(statistics, strict=False)
        _, _, mean = run(model, pixels)
        train_loss = (mean * probe).sum()
        train_loss.backward()
        floats.update({"train/mean": mean, "train/loss": train_loss.reshape(1)})
        floats.update({"train/grad/" + k: v for k, v in gradients(model).items()})
        floats.update({"train/after/" + k: v for k, v in as_saved(model).items() if "running_" in k})
    assert near > 5e-5, f"{name}: a ReLU or a maximum comes within {near} of its kink, take another seed"

    save_file({k: v.detach().float().contiguous() for k, v in floats.items()}, OUT / f"{name}.safetensors")
    config = model.config.to_dict()
    config.update(architectures=[type(model).__name__], dtype="float32")
    if "mask_ratio" in config:
        config["mask_ratio"] = 0.75
    (OUT / f"{name}_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    line = f"{name}: loss {loss.item():.6f}, hidden {list(hidden.shape)}, {len(floats)} tensors"
    if isinstance(model, ResNetModel):
        print(f"{line}, train loss {train_loss.item():.6f}, margin {near:.1e}, "
              f"{(hidden > 0).double().mean().item():.2f} of hidden above 0")
        return
    options = {"noise": torch.arange(hidden.shape[1] - 1).expand(BATCH, -1)} if name == "mae_small" else {}
    peak = model(pixels, output_attentions=True, **options).attentions[-1]
    print(f"{line}, mean attention peak over {peak.shape[-1]} keys {peak.max(-1).values.mean().item():.3f}")


OUT.mkdir(exist_ok=True)
EAGER = dict(attn_implementation="eager")
SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, **EAGER)
vit = ViTConfig(**SMALL, intermediate_size=32, image_size=24, patch_size=6)
make("vit_small", ViTModel(vit), (24, 24), seed=1)
mae = ViTMAEConfig(**SMALL, intermediate_size=40, image_size=24, patch_size=8, mask_ratio=0.0)
make("mae_small", ViTMAEModel(mae), (24, 24), seed=2)
dinov2 = Dinov2Config(**SMALL, mlp_ratio=2, image_size=56, patch_size=8)
make("dinov2_small", Dinov2Model(dinov2), (32, 32), seed=3)
swiglu = Dinov2Config(**SMALL, mlp_ratio=4, image_size=24, patch_size=6, use_swiglu_ffn=True)
make("dinov2_swiglu", Dinov2Model(swiglu), (24, 24), seed=4)
clip = CLIPVisionConfig(**SMALL, intermediate_size=32, image_size=28, patch_size=7)
make("clip_small", CLIPVisionModel(clip), (28, 28), seed=5)
basic = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[2, 2], layer_type="basic")
make("resnet_basic", ResNetModel(basic), (32, 40), seed=10)
bottleneck = ResNetConfig(embedding_size=4, hidden_sizes=[8, 16], depths=[2, 2], layer_type="bottleneck")
make("resnet_bottleneck", ResNetModel(bottleneck), (37, 45), seed=37)
swin = SwinConfig(
    image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4, mlp_ratio=2.0,
    drop_path_rate=0.0, **EAGER,
)
make("swin_small", SwinModel(swin), (32, 32), seed=8)
