"""Image files of every supported format, damaged files, and what Pillow decodes from them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageFilter, ImageOps

SIZE = 23


def smooth(width=47, height=31, channels=3, seed=0):
    """Return an image whose colours vary slowly, as in a photo."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(noise[..., c]).filter(ImageFilter.BoxBlur(2))) for c in range(channels)], 2
    )


RGB = Image.fromarray(smooth())


def write(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels, interlaced=False, extra=b"", size=None, data=None):
    """Return a PNG of (h, w, channels) uint8 or uint16, written without a library."""
    height, width, channels = pixels.shape
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [pixels[y::dy, x::dx] for y, x, dy, dx in steps] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.astype(f">u{pixels.itemsize}").tobytes() for p in passes if p.size for row in p)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", *(size or (width, height)), 8 * pixels.itemsize, colour, 0, 0, interlaced)
    data = zlib.compress(rows) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def split_png(between):
    """Return a PNG with two chunks of pixels, and other bytes between them."""
    at = PNG.index(b"IDAT") - 4
    data = PNG[at + 8 : -16]
    return PNG[:at] + chunk(b"IDAT", data[:101]) + between + chunk(b"IDAT", data[101:]) + PNG[-12:]


def bmp(pixels, bits=24, header=40, compression=0, top_down=False):
    height, width = pixels.shape[:2]
    rows = pixels[..., ::-1] if top_down else pixels[::-1, :, ::-1]
    rows = np.concatenate([rows, np.full((height, width, 1), 99, "uint8")], 2) if bits == 32 else rows
    data = b"".join(row.tobytes() + bytes(-width * bits // 8 % 4) for row in rows)
    info = struct.pack("<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, *[0] * 5)
    info += bytes(header - 40)
    return struct.pack("<2sIHHI", b"BM", 14 + header + len(data), 0, 0, 14 + header) + info + data


def exif(data, orientation, order="<", kind=3, at=8):
    """Return a JPEG with an EXIF orientation."""
    entries = [(0x010F, 2, 3, b"ab\0\0"), (0x0112, kind, 1, struct.pack(f"{order}HH", orientation, 0))]
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, at) + bytes(max(at - 8, 0))
    tiff += struct.pack(f"{order}H", len(entries))
    tiff += b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries) + bytes(4)
    return segment(data, 0xE1, b"Exif\0\0" + tiff)


def segment(data, marker, content):
    """Return a JPEG with a new first segment."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


JPEG = write(RGB, "JPEG", quality=90)


FRAME = JPEG.index(b"\xff\xc0")  # marker, length, precision, height, width, components


CMYK = write(Image.fromarray(smooth(channels=4), "CMYK"), "JPEG")


ADOBE = CMYK.index(b"\xff\xee")


PNG = write(RGB, "PNG")


BMP = bmp(np.asarray(RGB))


GIF = write(RGB, "GIF")


GIF_FRAME = GIF.index(b"\x2c\0\0\0\0")


PALETTE = RGB.quantize(7)


GIF_8 = write(PALETTE, "GIF", interlace=0, optimize=True)  # eight colours: 24 bytes after a header of 13 bytes


AT = GIF_8.index(b"\x2c\0\0\0\0")


GIF_LOCAL = patched(GIF_8[:13] + GIF_8[37 : AT + 9], 10, b"\0") + b"\x82" + GIF_8[13:37] + GIF_8[AT + 10 :]


GIF_OFFSET = patched(patched(GIF_8, AT + 1, struct.pack("<HH", 5, 3)), 6, struct.pack("<HH", 61, 37))


GIF_CLEAR = write(PALETTE, "GIF", transparency=2)


TEXT_BOMB = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(80_000_000)))


GOOD = {
    **{f"jpeg {s}": write(RGB, "JPEG", subsampling=s, quality=90) for s in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")},
    "jpeg": JPEG,
    "jpeg progressive": write(RGB, "JPEG", progressive=True),
    "jpeg cmyk": CMYK,
    "jpeg cmyk, not by Adobe": CMYK[:ADOBE] + CMYK[ADOBE + 16 :],
    "jpeg grey": write(RGB.convert("L"), "JPEG"),
    "jpeg rgb": write(RGB, "JPEG", keep_rgb=True),
    "jpeg restarts": write(RGB, "JPEG", restart_marker_blocks=1),
    "jpeg 1x1": write(RGB.crop((0, 0, 1, 1)), "JPEG"),
    "jpeg wide": write(Image.fromarray(smooth(997, 2)), "JPEG"),
    "jpeg large": write(Image.fromarray(smooth(401, 307)), "JPEG"),
    "jpeg fill bytes": JPEG[:2] + b"\xff\xff\xff" + JPEG[2:],
    "jpeg junk between segments": JPEG[: FRAME] + b"junk" + JPEG[FRAME:],
    "jpeg with something after": JPEG + b"and more",
    "jpeg odd exif": segment(JPEG, 0xE1, b"Exif\0\0MM"),
    "jpeg odd photoshop": segment(JPEG, 0xED, b"Photoshop 3.0\0008BIM\x04\x04\xff\xff"),
    "jpeg several images": write(RGB, "MPO", save_all=True, append_images=[RGB.crop((0, 0, 5, 7))]),
    "png": PNG,
    "png grey": write(RGB.convert("L"), "PNG"),
    "png grey and alpha": write(RGB.convert("LA"), "PNG"),
    "png alpha": write(Image.fromarray(smooth(channels=4)), "PNG"),
    "png palette": write(PALETTE, "PNG"),
    "png palette, 2 bits": write(RGB.quantize(3), "PNG", bits=2),
    "png palette, transparent": write(PALETTE, "PNG", transparency=2),
    "png palette, alphas": write(PALETTE, "PNG", transparency=bytes([0, 10, 255, 77])),
    "png colour, transparent": png(smooth(), extra=chunk(b"tRNS", bytes(6))),
    "png 1 bit": write(RGB.convert("1"), "PNG"),
    "png 16 bits": png(smooth().astype("uint16") * 256 + smooth(seed=1)),
    "png 16 bits, alpha": png(smooth(channels=4).astype("uint16") * 256 + 201),
    "png 16 bits, grey": png(smooth(channels=1).astype("uint16") * 256 + smooth(channels=1, seed=1)),
    "png 16 bits, grey and alpha": png(smooth(channels=2).astype("uint16") * 256 + 201),
    "png interlaced": png(smooth(), interlaced=True),
    "png interlaced, 1 x 3": png(smooth(1, 3), interlaced=True),
    "png gamma": png(smooth(), extra=chunk(b"gAMA", struct.pack(">I", 100_000))),
    "png of several chunks": split_png(chunk(b"IDAT", b"")),
    "png 1x1": write(RGB.crop((0, 0, 1, 1)), "PNG"),
    "png animated": write(RGB, "PNG", save_all=True, append_images=[ImageOps.invert(RGB)]),
    "png a text that is a bomb": png(smooth(), extra=TEXT_BOMB),
    "png a text with a wrong sum": png(smooth(), extra=chunk(b"tEXt", b"a\0b")[:-1] + b"x"),
    "png more data than pixels": png(smooth(), data=zlib.compress(bytes(31 * (47 * 3 + 1) + 30_000_000))),
    "gif": GIF,
    "gif not interlaced": write(RGB, "GIF", interlace=0),
    "gif grey": write(RGB.convert("L"), "GIF"),
    "gif animated": write(RGB, "GIF", save_all=True, append_images=[ImageOps.invert(RGB), ImageOps.mirror(RGB)]),
    "gif local colours": GIF_LOCAL,
    "gif comment": write(RGB, "GIF", comment=b"c" * 700),
    "gif 1x1": write(RGB.crop((0, 0, 1, 1)), "GIF"),
    "gif without an end": GIF[:-1],
    "gif large": write(Image.fromarray(smooth(401, 307)), "GIF"),
    "bmp": BMP,
    "bmp by Pillow": write(RGB, "BMP"),
    "bmp 32 bits": bmp(np.asarray(RGB), 32),
    "bmp top down": bmp(np.asarray(RGB), top_down=True),
    "bmp long header": bmp(np.asarray(RGB), 32, 124),
    "bmp 1x1": bmp(np.asarray(RGB.crop((0, 0, 1, 1)))),
}  # fmt: skip


BAD = {
    "empty": b"",
    "text": b"a boy eats an apple",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "random": np.random.default_rng(3).bytes(997),
    "tiff": write(RGB, "TIFF"),
    "riff": b"RIFF\x10\0\0\0WAVEfmt 12345678",
    "ppm": write(RGB, "PPM"),
    **{
        f"{name} cut {cut}": data[:cut]
        for name, data in (("jpeg", JPEG), ("png", PNG), ("gif", GIF), ("bmp", BMP))
        for cut in (3, 7, 11, 17, 29, 101, len(data) // 2, len(data) - 19)
    },
    "jpeg without an end": JPEG[:-2],
    "jpeg cut in its last byte": JPEG[:-1],
    "gif cut before its terminator": GIF[:-2],
    "bmp cut in its last byte": BMP[:-1],
    "jpeg huge": patched(JPEG, FRAME + 5, struct.pack(">HH", 65_000, 65_000)),
    "jpeg no rows": patched(JPEG, FRAME + 5, struct.pack(">HH", 0, 47)),
    "jpeg 12 bits": patched(JPEG, FRAME + 4, b"\x0c"),
    "jpeg lossless": patched(JPEG, FRAME + 1, b"\xc3"),
    "jpeg arithmetic": patched(JPEG, FRAME + 1, b"\xc9"),
    "jpeg two components": patched(JPEG, FRAME + 9, b"\x02"),
    "jpeg no tables": JPEG[:2] + JPEG[FRAME:],
    "jpeg no frame": JPEG[:FRAME] + JPEG[FRAME + 19 :],
    "jpeg ends before its scan": JPEG[:FRAME] + b"\xff\xd9" + JPEG[FRAME:],
    "jpeg junk without end": JPEG[:20] + bytes(1_000),
    "png huge": png(smooth(), size=(100_000, 100_000)),
    "png wide": png(smooth(), size=(500_000, 1)),
    "png no columns": png(smooth(), size=(0, 31)),
    "png too few rows": png(smooth(), size=(47, 32)),
    "png no deflate": png(smooth(), data=b"no deflate"),
    "png wrong sum": patched(PNG, len(PNG) - 14, b"\0\0"),
    "png no palette": write(PALETTE, "PNG").replace(b"PLTE", b"pLTE"),
    "png text between pixels": split_png(chunk(b"tEXt", b"a\0b")),
    "png without the end of its pixels": png(smooth(), data=zlib.compress(bytes(31 * (47 * 3 + 1)))[:-4]),
    "png two headers": png(smooth(), extra=PNG[8:33]),
    "png odd interlacing": png(smooth(), interlaced=2),
    "png unknown chunk": png(smooth(), extra=chunk(b"ABCD", b"x")),
    "gif huge": patched(GIF, 6, struct.pack("<HH", 65_000, 65_000)),
    "gif huge frame": patched(GIF, GIF_FRAME + 5, struct.pack("<HH", 65_000, 65_000)),
    "gif a frame at an offset": GIF_OFFSET,
    "gif a screen larger than its frame": patched(GIF_8, 6, struct.pack("<HH", 61, 37)),
    "gif too few pixels": patched(patched(GIF, GIF_FRAME + 7, struct.pack("<H", 32)), 8, struct.pack("<H", 32)),
    "gif no frame": GIF[: GIF_FRAME] + b"\x3b",
    "gif no colours": patched(GIF, 10, b"\0")[:13] + GIF[13 + 768 :],
    "gif a pixel beyond its colours": patched(GIF_8[:19] + GIF_8[37:], 10, b"\x80"),
    "bmp huge": patched(BMP, 18, struct.pack("<ii", 100_000, 100_000)),
    "bmp old header": patched(BMP, 14, struct.pack("<I", 12)),
    "bmp 8 bits": write(PALETTE, "BMP"),
    "bmp compressed": bmp(np.asarray(RGB), 32, compression=3),
}  # fmt: skip


def resized(pixels):
    channels = [Image.fromarray(pixels[..., c].astype("float32")) for c in range(3)]
    return np.stack([np.asarray(c.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for c in channels], 2)
