"""Golden token ids: tricky titles through two real Hugging Face tokenizers.

Makes tokenize.json beside this file:
  {"max_length": 30,
   "tokenizers": ["bert-tiny-splade", "roberta-base-tokenizer"],       folders under the models directory
   "titles": [{"text": as written, "lower": text.lower(), "ids": {folder: [id, ...]}}, ...]}
`ids` are those of `lower`, with the special tokens ([CLS] … [SEP], <s> … </s>), truncated to 30 ids in all, without
padding. Each comes from transformers' PreTrainedTokenizerFast over the folder's tokenizer.json; the script asserts
that the tokenizers library alone (truncation to 30, special tokens) gives the same.

(Not called tokenize.py: that would hide Python's own `tokenize` module from every script in this folder.)

Made with transformers 5.23.0, tokenizers 0.23.3.
Run: python titles.py MODELS_DIR      (MODELS_DIR holds the two folders; python with: pip install transformers)
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
MAX_LENGTH = 30
FOLDERS = ["bert-tiny-splade", "roberta-base-tokenizer"]
TITLES = [
    "",
    "   ",
    "Fender Guitar Strap",
    "  Leading and   inner  spaces\tand a tab ",
    "Salt & Pepper Shakers, Set of 2",
    "Salt &amp; Pepper &quot;Deluxe&quot; &#39;99",
    "D'Addario EJ16-3D Phosphor Bronze Acoustic Guitar Strings (.012-.053), 3-Pack",
    "Beyoncé – “Déjà Vu” … naïve café",
    "Cafe\u0301 in decomposed form, A\u030angstro\u0308m",
    "İstanbul ÇAĞRI straße ΟΔΟΣ",
    "任天堂 スーパーマリオ 3D ワールド",
    "슈퍼 마리오 오디세이",
    "Игра престолов: Сезон №1",
    "لعبة كرة القدم 2024",
    "Party 🎉🎸 Pack 👩‍👩‍👧‍👦 5⭐️",
    "C++/C# @ 50% off!!! $19.99 #1 <NEW> [CLS] [MASK] </s>",
    "Supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "zero\u200bwidth no\u00a0break soft\u00adhyphen \ufeffbom \u0007bell \ufffd ﬁ ① ™",
    "1080p 4K 5.1ch 12\" x 18' 1/2-inch 1,000,000 2.4GHz XLR-to-1/4\" TRS",
    "The Very Long and Quite Unreasonably Detailed Official Commemorative Anniversary Collector's Edition Box Set of "
    "the Complete Works, Volumes One to Twelve, with Bonus Discs, Posters, a Certificate & Much More (Region Free)",
]


def main(models):
    rows = [{"text": t, "lower": t.lower(), "ids": {}} for t in TITLES]
    for folder in FOLDERS:
        file = str(models / folder / "tokenizer.json")
        fast = PreTrainedTokenizerFast(tokenizer_file=file)
        plain = Tokenizer.from_file(file)
        plain.enable_truncation(MAX_LENGTH)
        plain.no_padding()
        for row in rows:
            ids = fast(row["lower"], truncation=True, max_length=MAX_LENGTH)["input_ids"]
            assert ids == plain.encode(row["lower"]).ids, (folder, row["lower"])
            row["ids"][folder] = ids
        print(folder, [len(row["ids"][folder]) for row in rows])
    head = f'{{"max_length": {MAX_LENGTH}, "tokenizers": {json.dumps(FOLDERS)}, "titles": [\n'
    body = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "tokenize.json").write_text(head + body + "\n]}\n")


if len(sys.argv) != 2:
    sys.exit("usage: python tokenize.py MODELS_DIR")
main(Path(sys.argv[1]))
