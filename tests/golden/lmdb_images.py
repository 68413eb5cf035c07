"""LMDB image folders as the MoRec, NineRec and IISAN scripts write them, and single pickled values, good and hostile.

Makes, beside this file:
  lmdb/data.mdb        three images: "12" is 6x4 (height 6, width 4), "7" is 5x5, "item-3" is 4x7
  lmdb/deep/data.mdb   60 images, "v0" 3x2, "v1" 3x2, ... but "v30" 48x40: a tree of two levels, and a value
                       on overflow pages, as every real 224x224 image is
  lmdb/*.pkl           values, see below
  lmdb_images.json     lmdb: {key: {height, width, pixels (HWC)}}; deep: the same with height and width, where byte j of
                       item k is (7 j + 13 k) % 251; keys: what `__keys__` holds; values: {file: ...} of the good ones

The key is the item id in ASCII, the value pickle.dumps(LMDB_Image(img, id)) with img an array (height,width,3) uint8 in
RGB, the class in __main__, here protocol 4 (the default of Python 3.8 to 3.13; 3.0 to 3.7 had 3, 3.14 has 5). Also in
each database: __keys__, the pickled list of all keys as bytes, and __len__, the pickled number of them.
Compact copies (lock.mdb left out, pages of 4096 bytes); a real folder has a lock.mdb and holes.

Good values, of image "7" but for the last two:
  v_proto2.pkl .. v_proto5.pkl   by protocol; 2 has no bytes: _codecs.encode("latin1 text", "latin1")
  v_numpy.pkl, v_numpy1.pkl      `image` is the array itself, by numpy 2 (numpy._core.multiarray) and numpy 1
                                 (numpy.core.multiarray); protocol 4
  v_frames.pkl                   a 10x12 image (byte j is 7 j % 251) in the frames of an image over 64 KiB, as every
                                 real one is: protocol 4 closes the frame and writes the pixels outside of any
  v_image_only.pkl               MicroLens's form: `image` alone, float32 (3,2,2) after ToTensor and Normalize to
                                 [-1, 1]; nothing says its shape or type, so it cannot be told from the value
Hostile values:
  evil_reduce.pkl      calls os.system("true"), by STACK_GLOBAL and REDUCE, protocol 4
  evil_global.pkl      the same in the text of protocol 0 (GLOBAL), and no LMDB_Image at all
  evil_state.pkl       a good LMDB_Image but for `id`, which calls os.system("true")
  truncated.pkl        v_proto4.pkl without its last third
  huge_size.pkl        says 100000x100000 with 75 bytes of pixels
  negative_size.pkl    says -5x-5 (the product is right)
  huge_length.pkl      a BINBYTES8 that announces 2**60 bytes
  deep_nesting.pkl     10000 lists in one another: a recursive reader runs out of stack

Made with Python 3.11, lmdb 3.0.0, numpy 2.4.6.
Run: python lmdb_images.py      (python with: pip install lmdb numpy)
"""

import io
import json
import os
import pickle
import pickletools
import shutil
import struct
import tempfile
from pathlib import Path

import lmdb
import numpy as np

HERE = Path(__file__).resolve().parent
OUT = HERE / "lmdb"


class LMDB_Image:
    def __init__(self, image, id):
        self.channels = image.shape[2]
        self.size = image.shape[:2]
        self.image = image.tobytes()
        self.id = id


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def write(folder, images):
    """The scripts' own calls, then a compact copy."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        env = lmdb.open(scratch, map_size=1 << 20)
        with env.begin(write=True) as txn:
            for key, image in images.items():
                txn.put(key.encode("ascii"), pickle.dumps(LMDB_Image(image, key), protocol=4))
        keys = [key.encode("ascii") for key in images]
        with env.begin(write=True) as txn:
            txn.put(b"__keys__", pickle.dumps(keys, protocol=4))
            txn.put(b"__len__", pickle.dumps(len(keys), protocol=4))
        copy = Path(scratch) / "copy"
        copy.mkdir()
        env.copy(str(copy), compact=True)
        env.close()
        shutil.copyfile(copy / "data.mdb", folder / "data.mdb")
    env = lmdb.open(str(folder), readonly=True, lock=False)
    with env.begin() as txn:
        for key, image in images.items():
            value = pickle.loads(txn.get(key.encode("ascii")))
            assert (np.frombuffer(value.image, np.uint8).reshape(*value.size, value.channels) == image).all()
        assert pickle.loads(txn.get(b"__len__")) == len(images) == len(pickle.loads(txn.get(b"__keys__")))
        stat = txn.stat()
    env.close()
    print(folder.name, {k: stat[k] for k in ("depth", "branch_pages", "leaf_pages", "overflow_pages", "entries")})


def rename_module(pickled, old, new):
    """The module's name in a pickle of protocol 4 that is one frame: the string's length and the frame's."""
    assert pickled[2] == 0x95 and struct.unpack("<Q", pickled[3:11])[0] == len(pickled) - 11
    short = lambda text: b"\x8c" + bytes([len(text)]) + text
    assert pickled.count(short(old)) == 1
    body = pickled[11:].replace(short(old), short(new))
    return pickled[:3] + struct.pack("<Q", len(body)) + body


def frames(image):
    """As for a large image: the Python pickler with frames of 64 bytes at the most."""
    size, pickle._Framer._FRAME_SIZE_TARGET = pickle._Framer._FRAME_SIZE_TARGET, 64
    file = io.BytesIO()
    pickle._Pickler(file, protocol=4).dump(LMDB_Image(image, "frames"))
    pickle._Framer._FRAME_SIZE_TARGET = size
    data = file.getvalue()
    value = pickle.loads(data)
    assert (np.frombuffer(value.image, np.uint8) == image.flatten()).all()
    opcodes = [op.name for op, _, _ in pickletools.genops(data)]
    assert opcodes.count("FRAME") >= 2 and "BINBYTES" in opcodes
    return data


def values(image):
    good = LMDB_Image(image, "7")
    files = {f"v_proto{p}.pkl": pickle.dumps(good, protocol=p) for p in (2, 3, 4, 5)}
    array = LMDB_Image(image, "7")
    array.image = image
    files["v_numpy.pkl"] = pickle.dumps(array, protocol=4)
    files["v_numpy1.pkl"] = rename_module(files["v_numpy.pkl"], b"numpy._core.multiarray", b"numpy.core.multiarray")
    for name, data in files.items():
        value = pickle.loads(data)  # numpy 2 still knows the old name
        pixels = value.image if "numpy" in name else np.frombuffer(value.image, np.uint8).reshape(5, 5, 3)
        assert (pixels == image).all() and value.size == (5, 5) and value.channels == 3 and value.id == "7"

    files["v_frames.pkl"] = frames((7 * np.arange(360) % 251).astype(np.uint8).reshape(10, 12, 3))
    only = LMDB_Image.__new__(LMDB_Image)
    only.image = (np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 6 - 1).tobytes()
    files["v_image_only.pkl"] = pickle.dumps(only, protocol=4)

    files["evil_reduce.pkl"] = pickle.dumps(Evil(), protocol=4)
    files["evil_global.pkl"] = b"cos\nsystem\n(S'true'\ntR."
    state = LMDB_Image(image, "7")
    state.id = Evil()
    files["evil_state.pkl"] = pickle.dumps(state, protocol=4)
    files["truncated.pkl"] = files["v_proto4.pkl"][: len(files["v_proto4.pkl"]) * 2 // 3]
    for name, size in ("huge_size.pkl", (100000, 100000)), ("negative_size.pkl", (-5, -5)):
        wrong = LMDB_Image(image, "7")
        wrong.size = size
        files[name] = pickle.dumps(wrong, protocol=4)
    files["huge_length.pkl"] = b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc."
    files["deep_nesting.pkl"] = b"\x80\x04" + b"]" * 10000 + b"a" * 9999 + b"."
    return files


gen = np.random.default_rng(1)
shapes = {"12": (6, 4), "7": (5, 5), "item-3": (4, 7)}
plain = {key: gen.integers(0, 256, (*shape, 3), dtype=np.uint8) for key, shape in shapes.items()}
deep = {}
for k in range(60):
    height, width = (48, 40) if k == 30 else (3, 2)
    bytes_ = (7 * np.arange(height * width * 3) + 13 * k) % 251
    deep[f"v{k}"] = bytes_.astype(np.uint8).reshape(height, width, 3)

write(OUT, plain)
write(OUT / "deep", deep)
files = values(plain["7"])
for name, data in files.items():
    (OUT / name).write_bytes(data)

describe = lambda image: dict(height=image.shape[0], width=image.shape[1])
facts = dict(
    lmdb={key: dict(describe(image), pixels=image.flatten().tolist()) for key, image in plain.items()},
    deep={key: describe(image) for key, image in deep.items()},
    keys=dict(lmdb=list(plain), deep=list(deep)),
    values={name: dict(height=5, width=5, id="7") for name in files if name.startswith(("v_p", "v_n"))}
    | {"v_frames.pkl": dict(height=10, width=12, id="frames")},
)
(HERE / "lmdb_images.json").write_text(json.dumps(facts, sort_keys=True) + "\n")
print({name: len(data) for name, data in files.items()})
