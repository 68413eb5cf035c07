"""Adapters as the Python packages peft and adapters (AdapterHub) store them, and a check of folders that we wrote.

  python adapter_files.py make-peft adapters      with transformers 5 and peft
  python adapter_files.py make-hub adapters       with transformers 4 and adapters and peft; after make-peft
  python adapter_files.py check-peft BASE ADAPTER EXPECTED
  python adapter_files.py check-hub BASE ADAPTER EXPECTED

make-* write into the folder adapters/:
  bert, vit                  a small random model of each: Hugging Face's config.json, model.safetensors
  lora, ia3, vit-lora        peft's folders: adapter_config.json, adapter_model.safetensors
  vit-lora-tf4               vit-lora as peft writes it under transformers 4, whose ViT has other names in memory
  houlsby, pfeiffer, parallel, vit-houlsby
                             AdapterHub's folders: adapter_config.json, adapter.safetensors; the adapter is "morec"
  expected.safetensors       ids (3,7) int64, vit_pixels (3,3,32,32), and last_hidden_state of each:
                             bert, lora, ia3, vit, vit_lora
  expected_hub.safetensors   houlsby, pfeiffer, parallel, vit_houlsby, of the same ids and vit_pixels

Of AdapterHub's, houlsby and vit-houlsby are saved from BertAdapterModel and ViTAdapterModel, whose tensors have the
prefix `bert.` and `vit.`; pfeiffer and parallel from a BertModel, without a prefix. AdapterHub loads either.

The function of each is written out below (encode, lora, ia3, sequential, parallel), and the packages' results
must agree with it to 1e-6. The arithmetic is float64 on float32 weights, stored as float32.

check-* load a model's folder BASE and our ADAPTER with the package: no tensor may be missing or left over, and
last_hidden_state must be EXPECTED's `hidden` to 1e-5, of its `ids` (or `pixels`, if BASE is a ViT).

Made with torch 2.15.0, safetensors 0.8.0, peft 0.21.2 and transformers 5.23.0; and adapters 1.3.0, peft 0.21.2 and
transformers 4.57.6.
"""

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
NAME = "morec"
HEADS, LAYERS = 4, 2


# What the adapters compute, written out.


def encode(folder, x, linear=None, adapt=lambda place, x, y: y):
    """last_hidden_state of the BERT or ViT in `folder`, by the names of its file.

    linear(name, x, w, b) stands for a linear layer; adapt(place, x, y) is given the output y of a sub-layer and its
    input x, before the residual connection: after attention (place encoder.layer.I.attention.output) and after
    the feed-forward network (encoder.layer.I.output).
    """
    w = {name: value.double() for name, value in load_file(f"{folder}/model.safetensors").items()}
    eps = json.loads(Path(folder, "config.json").read_text())["layer_norm_eps"]

    def dense(name, x):
        return (linear or plain)(name, x, w[name + ".weight"], w[name + ".bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps)

    def attention(name, x):
        q, k, v = (dense(f"{name}.{part}", x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                   for part in ["query", "key", "value"])
        scores = (q @ k.transpose(2, 3)) / q.shape[-1] ** 0.5
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    e = "embeddings."
    if "embeddings.LayerNorm.weight" in w:  # BERT: the norm is after each residual connection
        x = w[e + "word_embeddings.weight"][x] + w[e + "token_type_embeddings.weight"][0]
        x = norm(e + "LayerNorm", x + w[e + "position_embeddings.weight"][:x.shape[1]])
        for i in range(LAYERS):
            p = f"encoder.layer.{i}."
            y = dense(p + "attention.output.dense", attention(p + "attention.self", x))
            x = norm(p + "attention.output.LayerNorm", x + adapt(p + "attention.output", x, y))
            y = dense(p + "output.dense", F.gelu(dense(p + "intermediate.dense", x)))
            x = norm(p + "output.LayerNorm", x + adapt(p + "output", x, y))
        return x
    kernel = w[e + "patch_embeddings.projection.weight"]  # ViT: the norm is before each sub-layer
    x = F.conv2d(x, kernel, w[e + "patch_embeddings.projection.bias"], stride=kernel.shape[2:]).flatten(2)
    cls = w[e + "cls_token"].expand(len(x), 1, -1)
    x = torch.cat([cls, x.transpose(1, 2)], 1) + w[e + "position_embeddings"]
    for i in range(LAYERS):
        p = f"encoder.layer.{i}."
        n = norm(p + "layernorm_before", x)
        y = dense(p + "attention.output.dense", attention(p + "attention.attention", n))
        x = x + adapt(p + "attention.output", n, y)
        n = norm(p + "layernorm_after", x)
        y = dense(p + "output.dense", F.gelu(dense(p + "intermediate.dense", n)))
        x = x + adapt(p + "output", n, y)
    return norm("layernorm", x)


def plain(name, x, w, b):
    return F.linear(x, w, b)


def lora(folder):
    """W x + b + alpha/r B A x: a `linear` with the tensors in `folder`."""
    t = {k: v.double() for k, v in load_file(f"{folder}/adapter_model.safetensors").items()}
    config = json.loads(Path(folder, "adapter_config.json").read_text())

    def linear(name, x, w, b):
        name = "base_model.model." + name
        if name + ".lora_A.weight" not in t:  # transformers 5 has other names for a ViT's in memory
            for old, new in [("encoder.layer.", "layers."), (".attention.attention.", ".attention."),
                             ("query", "q_proj"), ("value", "v_proj")]:
                name = name.replace(old, new)
        y = F.linear(x, w, b)
        if name + ".lora_A.weight" not in t:
            return y
        a, b = t[name + ".lora_A.weight"], t[name + ".lora_B.weight"]
        return y + config["lora_alpha"] / config["r"] * (x @ a.T @ b.T)

    return linear


def ia3(folder):
    """l * (W x + b), and W (l * x) + b for the feed-forward network's second layer."""
    t = {k: v.double() for k, v in load_file(f"{folder}/adapter_model.safetensors").items()}

    def linear(name, x, w, b):
        scale = t.get(f"base_model.model.{name}.ia3_l")
        if scale is None:
            return F.linear(x, w, b)
        if name.endswith("output.dense"):
            return F.linear(x * scale.squeeze(0), w, b)
        return F.linear(x, w, b) * scale.squeeze(1)

    return linear


def bottleneck(folder):
    """place, x -> Up(ReLU(Down(x))), or None where that place has no adapter."""
    t = {k: v.double() for k, v in load_file(f"{folder}/adapter.safetensors").items()}
    t = {k.removeprefix("bert.").removeprefix("vit."): v for k, v in t.items()}

    def f(place, x):
        stems = [place + ".adapters.", place.replace("attention.output", "attention_adapters") + ".adapters.",
                 place + ".output_adapters.adapters."]  # BERT; ViT's attention; ViT's feed-forward network
        found = [stem + NAME for stem in stems if f"{stem}{NAME}.adapter_up.weight" in t]
        if not found:
            return None
        down, up = found[0] + ".adapter_down.0.", found[0] + ".adapter_up."
        x = F.linear(x, t[down + "weight"], t[down + "bias"]).relu()
        return F.linear(x, t[up + "weight"], t[up + "bias"])

    return f


def sequential(folder):
    f = bottleneck(folder)

    def adapt(place, x, y):
        z = f(place, y)
        return y if z is None else y + z

    return adapt


def parallel(folder):
    f = bottleneck(folder)

    def adapt(place, x, y):
        z = f(place, x)
        return y if z is None else y + z

    return adapt


# Making the folders.


def randomise(parameters, seed):
    """Random values in a fixed order; scales are around 1, everything else around 0."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(parameters):
            x = torch.randn(p.shape, generator=gen)
            scale = "ia3_" in name or ("layernorm" in name.lower() and name.endswith("weight"))
            p.copy_(1 + 0.3 * x if scale else 0.2 * x)


def hidden(model, x):
    kind = "input_ids" if x.dtype == torch.int64 else "pixel_values"
    with torch.no_grad():
        return model.double().eval()(**{kind: x}).last_hidden_state


def agree(what, got, want, base):
    """The package's result is that of the function written out, and is not that of the model without an adapter."""
    difference, effect = (got - want).abs().max().item(), (got - base).abs().max().item()
    print(f"{what}: differs by {difference:.1e} from the function written out, by {effect:.2f} from the base model")
    assert difference < 1e-6 and effect > 0.1
    return got.float().contiguous()


def peft_vit_lora(folder, pixels, vit):
    from peft import LoraConfig, get_peft_model

    model = AutoModel.from_pretrained("vit", add_pooling_layer=False)
    # Transformers 5 has the names q_proj and v_proj in memory, though not in the file that it writes.
    names = [n.rpartition(".")[2] for n, _ in model.named_modules()]
    targets = ["query", "value"] if "query" in names else ["q_proj", "v_proj"]
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    # q... sorts before v... under either name, so the values are the same.
    randomise([(n, p) for n, p in model.named_parameters() if "lora_" in n], 13)
    save_peft(model, folder)
    return agree(folder, hidden(model, pixels), encode("vit", pixels, linear=lora(folder)), vit)


def save_peft(model, folder):
    model.save_pretrained(folder)
    Path(folder, "README.md").unlink()
    # The list comes from a set: its order would be another each time.
    path = Path(folder, "adapter_config.json")
    config = json.loads(path.read_text())
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2))


def make_peft():
    from peft import IA3Config, LoraConfig, get_peft_model
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    sizes = dict(hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=64,
                 layer_norm_eps=1e-12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    bert = BertModel(BertConfig(vocab_size=64, max_position_embeddings=40, type_vocab_size=2, **sizes),
                     add_pooling_layer=False)
    vit = ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes), add_pooling_layer=False)
    randomise(bert.named_parameters(), 10)
    randomise(vit.named_parameters(), 11)
    bert.save_pretrained("bert")
    vit.save_pretrained("vit")

    gen = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 64, (3, 7), generator=gen)
    pixels = torch.randn(3, 3, 32, 32, generator=gen)
    out = {"ids": ids, "vit_pixels": pixels}
    pixels = pixels.double()
    base, vit_base = encode("bert", ids), encode("vit", pixels)
    out["bert"] = agree("bert", hidden(bert, ids), base, 0)
    out["vit"] = agree("vit", hidden(vit, pixels), vit_base, 0)

    # A model loaded by this name, so that the name in adapter_config.json is "bert".
    model = AutoModel.from_pretrained("bert", add_pooling_layer=False)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"]))
    randomise([(n, p) for n, p in model.named_parameters() if "lora_" in n], 12)
    save_peft(model, "lora")
    out["lora"] = agree("lora", hidden(model, ids), encode("bert", ids, linear=lora("lora")), base)

    model = AutoModel.from_pretrained("bert", add_pooling_layer=False)
    # In a list, "output.dense" would also be attention.output.dense; an expression must match the whole name.
    ffn = r".*\.layer\.\d+\.output\.dense"
    config = IA3Config(target_modules=rf".*\.attention\.self\.(key|value)|{ffn}", feedforward_modules=ffn)
    model = get_peft_model(model, config)
    randomise([(n, p) for n, p in model.named_parameters() if "ia3_" in n], 14)
    save_peft(model, "ia3")
    out["ia3"] = agree("ia3", hidden(model, ids), encode("bert", ids, linear=ia3("ia3")), base)

    out["vit_lora"] = peft_vit_lora("vit-lora", pixels, vit_base)
    save_file(out, "expected.safetensors")


def make_hub():
    import adapters
    from adapters import BertAdapterModel, DoubleSeqBnConfig, ParBnConfig, ViTAdapterModel
    from transformers import BertModel

    expected = load_file("expected.safetensors")
    ids, pixels = expected["ids"], expected["vit_pixels"].double()
    base, vit_base = encode("bert", ids), encode("vit", pixels)

    def make(folder, model, config, x, want, base, seed):
        model.add_adapter(NAME, config=config)
        model.set_active_adapters(NAME)
        randomise([(n, p) for n, p in model.named_parameters() if f"adapters.{NAME}." in n], seed)
        model.save_adapter(folder, NAME, use_safetensors=True)
        body = getattr(model, model.base_model_prefix, model)  # without the heads' wrapper, which returns the same
        return agree(folder, hidden(body, x), want(folder), base)

    def bare():
        model = BertModel.from_pretrained("bert", add_pooling_layer=False)
        adapters.init(model)
        return model

    # AdapterHub's own "houlsby" is this with swish.
    double = DoubleSeqBnConfig(reduction_factor=4, non_linearity="relu")
    # AdapterHub's own "pfeiffer" (SeqBnConfig) has original_ln_before=True, which is another function.
    single = DoubleSeqBnConfig(reduction_factor=4, non_linearity="relu", mh_adapter=False)
    # AdapterHub's own "parallel" is only beside the feed-forward network, and scaled by 4.
    beside = ParBnConfig(reduction_factor=4, mh_adapter=True, scaling=1.0)
    out = {
        "houlsby": make("houlsby", BertAdapterModel.from_pretrained("bert"), double, ids,
                        lambda f: encode("bert", ids, adapt=sequential(f)), base, 15),
        "pfeiffer": make("pfeiffer", bare(), single, ids,
                         lambda f: encode("bert", ids, adapt=sequential(f)), base, 16),
        "parallel": make("parallel", bare(), beside, ids,
                         lambda f: encode("bert", ids, adapt=parallel(f)), base, 17),
        "vit_houlsby": make("vit-houlsby", ViTAdapterModel.from_pretrained("vit"), double, pixels,
                            lambda f: encode("vit", pixels, adapt=sequential(f)), vit_base, 18),
    }
    save_file(out, "expected_hub.safetensors")
    again = peft_vit_lora("vit-lora-tf4", pixels, vit_base)
    assert (again - expected["vit_lora"]).abs().max() < 1e-6


# Checking our folders.


def load_base(folder):
    model, report = AutoModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    # A published folder may have the pooler, and the heads of its pre-training: no part of the last hidden state.
    left = [name for name in report["unexpected_keys"] if not name.startswith(("pooler", "cls.", "classifier"))]
    assert not report["missing_keys"] and not left, report
    return model


def compare_tensors(got, file):
    """The tensors that the package has after loading are those of the file, by name and value."""
    missing, unexpected = sorted(got.keys() - file.keys()), sorted(file.keys() - got.keys())
    assert not missing and not unexpected, f"missing {missing}, unexpected {unexpected}"
    for name, value in file.items():
        assert torch.equal(got[name].float(), value.float()), f"{name} was not loaded"
    print(f"{len(file)} tensors loaded")


def compare_hidden(model, base, path):
    expected = load_file(path)
    vit = AutoConfig.from_pretrained(base).model_type == "vit"
    x = expected["pixels"].double() if vit else expected["ids"]
    difference = (hidden(model, x) - expected["hidden"]).abs().max().item()
    print(f"largest difference of last_hidden_state: {difference:.2e}")
    assert difference < 1e-5


def check_peft(base, adapter, expected):
    from peft import PeftModel, get_peft_model_state_dict

    model = PeftModel.from_pretrained(load_base(base), adapter)
    # peft only warns of what is missing, and says nothing of what is left over.
    got = get_peft_model_state_dict(model, save_embedding_layers=False)
    compare_tensors(got, load_file(f"{adapter}/adapter_model.safetensors"))
    compare_hidden(model, base, expected)


def check_hub(base, adapter, expected):
    import adapters

    model = load_base(base)
    adapters.init(model)
    report = {}
    name = model.load_adapter(adapter, loading_info=report, set_active=True, use_safetensors=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    got = {k: v for k, v in model.state_dict().items() if f"adapters.{name}." in k}
    file = load_file(f"{adapter}/adapter.safetensors")
    prefix = model.base_model_prefix + "."
    # It skips tensors without the prefix silently where others have it, so all are compared here.
    compare_tensors(got, {k.removeprefix(prefix): v for k, v in file.items()})
    compare_hidden(model, base, expected)


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    if command.startswith("make-"):
        # Relative names from here on, as the packages write the base model's into adapter_config.json.
        os.makedirs(paths[0], exist_ok=True)
        os.chdir(paths[0])
        {"make-peft": make_peft, "make-hub": make_hub}[command]()
    else:
        {"check-peft": check_peft, "check-hub": check_hub}[command](*paths)
