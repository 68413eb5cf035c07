"""models/title-mini, our own distilled encoder, as Hugging Face's transformers loads and runs it.

Makes, beside this file:
  title_mini.safetensors   ids (5,l) i64, lengths (5,) i64, mean (5,192): mean of last_hidden_state over real tokens
  title_mini.json          the five texts

The folder is loaded by AutoTokenizer and AutoModel alone, so this also shows that the layout is theirs; the arithmetic
is float64 on the file's F16 weights.

Made with torch 2.15.0, transformers 5.23.0, safetensors. Run: python title_mini.py ../../models/title-mini
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).resolve().parent
TEXTS = [
    "fender stratocaster electric guitar, maple neck",
    "the legend of zelda: breath of the wild",
    "norvex vintage galaxy rocket poster",
    "toy story (1995)",
    "zyxwv qpo 0189 & co.",
]

torch.set_num_threads(1)
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
model, report = AutoModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"], report
model = model.double().eval()
batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=48, return_tensors="pt")
with torch.no_grad():
    hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
mask = batch["attention_mask"].unsqueeze(-1)
mean = (hidden * mask).sum(1) / mask.sum(1)
save_file(
    {"ids": batch["input_ids"].contiguous(), "lengths": batch["attention_mask"].sum(1), "mean": mean.float().contiguous()},
    HERE / "title_mini.safetensors",
)
(HERE / "title_mini.json").write_text(json.dumps(TEXTS) + "\n")
print(mean[:, :3], batch["input_ids"].shape)
