"""models/cover-mini, our own distilled encoder of covers, as Hugging Face's transformers loads and runs it.

Makes, beside this file:
  cover_mini.safetensors   cls (3,192): the class token of last_hidden_state for pillow/rgb.png, pillow/base420.jpg,
                           pillow/lossy.webp, prepared as the folder's preprocessor_config.json says

The folder is loaded by AutoModel alone, so this also shows that the layout is theirs; the
arithmetic is float64 on the file's F16 weights. Pictures are resized horizontally first (see pillow.py).

Made with torch 2.15.0, transformers 5.23.0, Pillow 13, safetensors. Run: python cover_mini.py ../../models/cover-mini
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel

HERE = Path(__file__).resolve().parent
torch.set_num_threads(1)
folder = sys.argv[1]
model, report = AutoModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"], report
model = model.double().eval()
pre = json.loads((Path(folder) / "preprocessor_config.json").read_text())
w, h = pre["size"]["width"], pre["size"]["height"]
rows = []
for name in ["rgb.png", "base420.jpg", "lossy.webp"]:
    picture = Image.open(HERE / "pillow" / name).convert("RGB")
    # One direction at a time: the same order in every version of Pillow.
    sized = picture.resize((w, picture.height), pre["resample"]).resize((w, h), pre["resample"])
    x = np.asarray(sized, dtype=np.float64) * pre["rescale_factor"]
    rows.append((x - np.array(pre["image_mean"])) / np.array(pre["image_std"]))
pixels = torch.tensor(np.stack(rows)).permute(0, 3, 1, 2)
with torch.no_grad():
    cls = model(pixel_values=pixels).last_hidden_state[:, 0]
save_file({"cls": cls.float().contiguous()}, HERE / "cover_mini.safetensors")
print(cls[:, :3])
