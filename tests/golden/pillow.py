"""Golden pixels for reading and resizing images: small files that we draw, as Pillow reads and resizes them.

Makes pillow/ beside this file (image files, good and bad) and pillow.json, pillow.safetensors.

The good files: base420.jpg (baseline, 4:2:0, odd sides), progressive.jpg (4:2:2), gray.jpg, cmyk.jpg (Adobe, stored
inverted), rotated.jpg (EXIF orientation 6: shown turned a quarter clockwise), rgb.png, rgba.png (partly transparent),
palette.png (transparent entries), gray16.png, two.gif (two frames), lossy.webp, alpha.webp (lossless, with alpha).
The bad ones: truncated.jpg, text.jpg, empty.png, bomb.png (claims 60000x60000), cut.png.

pillow.json       good: {file: {format, mode, width, height}} as Image.open() says, bad: {file: what goes wrong},
                  mean, std: of `pixel_values`
pillow.safetensors, uint8 (height,width,3) unless said otherwise:
  rgb/FILE        Image.open(FILE).convert("RGB"): the first frame, the stored orientation, alpha *dropped*
  white/FILE      the files with alpha, over white: alpha_composite() on a white RGBA image, then convert("RGB")
  upright/FILE    rotated.jpg after ImageOps.exif_transpose(), which transformers' load_image() does
  resize/WxH/bilinear, resize/WxH/bicubic
                  rgb.png resized, antialiased: horizontal pass, rounded to uint8, vertical pass, rounded. This is
                  Image.resize((W, H)) of Pillow until 12, and made so that it does not depend on the version.
  resize13/...    24x24 and 50x20 by Pillow 13, which does the vertical pass first where the height shrinks, and by
                  more than twice what the width does: H - h > 2 * max(W - w, 0), from WxH to wxh. Up to 8 levels off.
  crop            rgb.png as BitImageProcessor and CLIPImageProcessor do: bicubic, shortest edge to 32 (the other is
                  int(32 * long / short)), then the centre 24x24 (offset (size - 24) // 2)
                  (horizontal pass first, in Pillow 13 too)
  pixel_values    f32 (3,24,24): rgb.png as ViTImageProcessor does: bilinear to 24x24, * 1/255, (x - mean) / std,
                  on the horizontal pass first
  pixel_values13  the same by Pillow 13

JPEG and lossy WebP decoders may differ by a level or two (inverse DCT, chroma upsampling); these are libjpeg-turbo's
(slow integer DCT, smooth upsampling) and libwebp's. The rest is exact.

gray16.png holds samples of 16 bits; convert("RGB") *clips* them to 255 (it does not keep the high byte), so that
nearly all of such an image is white.

Made with Pillow 13.0.0, numpy 2.4.6, transformers 5.23.0 (its `Pil` image processors), safetensors.
Run: python pillow.py      (python with: pip install pillow numpy transformers safetensors)
"""

import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from safetensors.numpy import save_file
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

HERE = Path(__file__).resolve().parent
OUT = HERE / "pillow"


def draw(width, height, seed, noise=12):
    """A gradient with an ellipse, a frame, a line and some noise."""
    gen = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], -1)
    image = Image.fromarray(ramp.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.ellipse((width * 0.2, height * 0.25, width * 0.6, height * 0.7), fill=(220, 40, 60))
    pen.rectangle((width * 0.55, height * 0.5, width * 0.9, height * 0.9), fill=(20, 90, 200), outline=(255, 240, 0))
    pen.line((0, height - 1, width - 1, 0), fill=(250, 250, 250))
    grain = gen.integers(-noise, noise + 1, (height, width, 3))
    return Image.fromarray((np.asarray(image).astype(int) + grain).clip(0, 255).astype(np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_files():
    for old in OUT.iterdir():
        old.unlink()
    draw(37, 53, 1).save(OUT / "base420.jpg", quality=85, subsampling="4:2:0")
    draw(60, 40, 2).save(OUT / "progressive.jpg", quality=80, subsampling="4:2:2", progressive=True)
    draw(16, 90, 3).convert("L").save(OUT / "gray.jpg", quality=90)
    draw(33, 21, 4).convert("CMYK").save(OUT / "cmyk.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(36, 20, 5).save(OUT / "rotated.jpg", quality=90, exif=exif)

    draw(37, 53, 6).save(OUT / "rgb.png")
    y, x = np.mgrid[0:27, 0:31]
    alpha = np.where((x - 15) ** 2 + (y - 13) ** 2 < 130, 255, x * 8).astype(np.uint8)
    alpha[:4] = 0
    rgba = draw(31, 27, 7)
    rgba.putalpha(Image.fromarray(alpha))
    rgba.save(OUT / "rgba.png")
    draw(24, 20, 8).quantize(16).save(OUT / "palette.png", transparency=bytes([0, 128, 255, 60, 255, 255, 1, 254]))
    deep = np.random.default_rng(9).integers(0, 65536, (24, 20), dtype=np.uint16)
    deep[0, :6] = [0, 1, 255, 256, 257, 65535]
    Image.fromarray(deep).save(OUT / "gray16.png")

    frames = [draw(30, 22, seed).quantize(32) for seed in (10, 11)]
    frames[0].save(OUT / "two.gif", save_all=True, append_images=frames[1:], duration=100)
    draw(41, 35, 12).save(OUT / "lossy.webp", quality=80)
    small = rgba.crop((0, 0, 23, 27))
    small.save(OUT / "alpha.webp", lossless=True, exact=True)

    good = (OUT / "base420.jpg").read_bytes()
    (OUT / "truncated.jpg").write_bytes(good[: len(good) * 7 // 10])
    (OUT / "text.jpg").write_text("This is not an image.\n")
    (OUT / "empty.png").write_bytes(b"")
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000), 9)
    (OUT / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    good = (OUT / "rgb.png").read_bytes()
    (OUT / "cut.png").write_bytes(good[: len(good) // 2])


BAD = ["bomb.png", "cut.png", "empty.png", "text.jpg", "truncated.jpg"]
OUT.mkdir(exist_ok=True)
make_files()
warnings.simplefilter("ignore")  # files left open; palettes with transparency, which Pillow would rather have as RGBA

tensors, good, bad = {}, {}, {}
for path in sorted(OUT.iterdir()):
    name = path.name
    if name in BAD:
        try:
            Image.open(path).load()
        except Exception as error:
            bad[name] = f"{type(error).__name__}: {error}".replace(str(OUT) + "/", "")
        assert name in bad
        continue
    image = Image.open(path)
    good[name] = dict(format=image.format, mode=image.mode, width=image.width, height=image.height)
    tensors["rgb/" + name] = np.asarray(image.convert("RGB"))
    if name in ("rgba.png", "palette.png", "alpha.webp"):
        white = Image.new("RGBA", image.size, "white")
        tensors["white/" + name] = np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
    if name == "rotated.jpg":
        tensors["upright/" + name] = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))

rgb = Image.open(OUT / "rgb.png").convert("RGB")
for size in (24, 24), (50, 20), (80, 100):
    for method in "bilinear", "bicubic":
        filter_ = getattr(Image.Resampling, method.upper())
        across = np.asarray(rgb.resize((size[0], rgb.height), filter_).resize(size, filter_))
        down = np.asarray(rgb.resize((rgb.width, size[1]), filter_).resize(size, filter_))
        pillow13 = np.asarray(rgb.resize(size, filter_))
        down_first = rgb.height - size[1] > 2 * max(rgb.width - size[0], 0)
        assert (pillow13 == (down if down_first else across)).all(), "not Pillow 13?"
        tensors[f"resize/{size[0]}x{size[1]}/{method}"] = across
        if down_first:
            tensors[f"resize13/{size[0]}x{size[1]}/{method}"] = pillow13

crop = dict(size={"shortest_edge": 32}, crop_size={"height": 24, "width": 24})
plain = dict(do_rescale=False, do_normalize=False, return_tensors="np")
crops = [kind(**crop)(rgb, **plain).pixel_values[0] for kind in (BitImageProcessorPil, CLIPImageProcessorPil)]
assert (crops[0] == crops[1]).all() and crops[0].shape == (3, 24, 24)
tensors["crop"] = crops[0].astype(np.uint8).transpose(1, 2, 0)

vit = ViTImageProcessorPil(size={"height": 24, "width": 24})
across = rgb.resize((24, rgb.height), Image.Resampling.BILINEAR)
for key, image, resized in ("", across, "resize"), ("13", rgb, "resize13"):
    values = vit(image, return_tensors="np").pixel_values[0]
    exact = (tensors[f"{resized}/24x24/bilinear"].transpose(2, 0, 1) / 255 - 0.5) / 0.5
    assert values.dtype == np.float32 and abs(values - exact).max() < 1e-6
    tensors["pixel_values" + key] = values

save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, HERE / "pillow.safetensors")
facts = dict(good=good, bad=bad, mean=list(vit.image_mean), std=list(vit.image_std))
(HERE / "pillow.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
print(f"{len(good)} good files, {len(bad)} bad, {len(tensors)} tensors")
