"""The all-MiniLM-L6-v2 reference numbers, out of a compressed .npz into a file that Rust reads.

Makes, beside this file:
  minilm_reference.safetensors   ids (3,12) i64         with [CLS]/[SEP], right-padded with 0
                                 lengths (3,) i64       8 8 12
                                 mean (3,384)           mean of last_hidden_state over real tokens
                                 normalised (3,384)     mean / its L2 norm = the .npz's sentence_embedding
                                 cls (3,384)            last_hidden_state at the first token
  minilm_reference.json          ["text of row 0", "text of row 1", "text of row 2"]

REFERENCE_DIR holds reference_numpy.npz and reference_texts.json: a float64 numpy forward of the published weights,
stored as float32. mean is computed here in float64 from the stored last_hidden_state. The script asserts that it
reproduces sentence_embedding. With MODEL_DIR (the fetched all-minilm-l6-v2 folder) it also asserts that
transformers' BertModel and the folder's tokenizer give the same ids and numbers.

Made with torch 2.15.0, transformers 5.23.0 (only for MODEL_DIR), numpy 2.4.6, safetensors.
Run: python minilm.py REFERENCE_DIR [MODEL_DIR]     (python with: pip install torch numpy safetensors [transformers])
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
torch.set_num_threads(1)


def convert(reference):
    arrays = np.load(reference / "reference_numpy.npz")
    texts = json.loads((reference / "reference_texts.json").read_text())
    ids, real = torch.from_numpy(arrays["input_ids"]), torch.from_numpy(arrays["attention_mask"])
    hidden = torch.from_numpy(arrays["last_hidden_state"]).double()
    given = torch.from_numpy(arrays["sentence_embedding"]).double()
    lengths = real.sum(1)
    assert len(texts) == len(ids) and (real == (torch.arange(ids.shape[1])[None] < lengths[:, None])).all()
    assert (ids[real == 0] == 0).all()
    mean = (hidden * real[..., None]).sum(1) / lengths[:, None]
    normalised = mean / mean.norm(dim=1, keepdim=True)
    error = (normalised - given).abs().max().item()
    assert error < 1e-6, error
    print(f"largest difference from sentence_embedding {error:.1e}")
    floats = dict(mean=mean, normalised=normalised, cls=hidden[:, 0])
    tensors = {k: v.float().contiguous() for k, v in floats.items()}
    tensors.update(ids=ids.long().contiguous(), lengths=lengths.long())
    save_file(tensors, HERE / "minilm_reference.safetensors")
    (HERE / "minilm_reference.json").write_text(json.dumps(texts, indent=1) + "\n")
    return texts, tensors


def check(model_dir, texts, tensors):
    from transformers import BertModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(model_dir / "tokenizer.json"), pad_token="[PAD]")
    batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    assert batch["input_ids"].equal(tensors["ids"])
    model = BertModel.from_pretrained(model_dir, add_pooling_layer=False).double().eval()
    with torch.no_grad():
        out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    real = batch["attention_mask"][..., None]
    mean = (out * real).sum(1) / real.sum(1)
    for name, value in [("mean", mean), ("cls", out[:, 0])]:
        error = (value - tensors[name]).abs().max().item()
        assert error < 1e-5, (name, error)
        print(f"transformers: largest difference in {name} {error:.1e}")


if len(sys.argv) not in (2, 3):
    sys.exit("usage: python minilm.py REFERENCE_DIR [MODEL_DIR]")
result = convert(Path(sys.argv[1]))
if len(sys.argv) == 3:
    check(Path(sys.argv[2]), *result)
