"""Pixel values of every kind of image that Pillow opens: the right ones, scaled by a rule that is told, or refused."""

from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stridelab.data import DataConfig, images
from stridelab.data.contents import forget
from stridelab.data.images import read_image
from stridelab.data.load import load
from stridelab.data.memory_budget import MemoryBudget
from stridelab.data.pixel_range import Range, UnreadableError, scale
from stridelab.data.splits import Data

SIDE, EACH = 8, 6


@pytest.fixture(autouse=True)
def caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    forget()


def folder_of(root: Path, arrays: list[np.ndarray], *, suffix: str = ".png") -> Path:
    """Two classes, the first half of the images in one, each as Pillow writes its array."""
    for number, array in enumerate(arrays):
        path = root / ("ant" if number < len(arrays) // 2 else "bee") / f"{number:02}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return root


def loaded(root: Path, **keys) -> tuple[Data, list[np.ndarray]]:
    """And the pixels of every image in the order of the files."""
    data = load(DataConfig(name="image_folder", root=str(root), **({"size": SIDE, "channels": 1} | keys)))
    count, *_ = data.train.storage.shape
    pixels = data.train.storage.take(slice(0, count)).permute(0, 2, 3, 1).numpy()
    return data, list(pixels)


def values(high: int, *, low: int = 0, dtype=np.uint16) -> list[np.ndarray]:
    """Twelve images whose values go from `low` to `high`, both included in the set."""
    arrays = list(np.random.default_rng(high).integers(low, high + 1, (2 * EACH, SIDE, SIDE)).astype(dtype))
    arrays[0][0, 0], arrays[-1][0, 0] = low, high
    return arrays


@pytest.mark.parametrize(
    ("high", "shift"), [(255, 0), (250, 0), (3, 0), (1000, 2), (4095, 4), (4000, 4), (16383, 6), (65535, 8)]
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_images_are_scaled_by_the_bits_that_the_set_uses(high, shift, suffix, tmp_path):
    arrays = values(high)
    data, pixels = loaded(folder_of(tmp_path / "set", arrays, suffix=suffix))
    for found, array in zip(pixels, arrays, strict=True):
        assert np.array_equal(found[..., 0], array >> shift)
    top = (256 << shift) - 1
    (note,) = data.spec.notes
    assert note == f"12 16-bit images with values from 0 to {high:,}: 0 to {top:,} became 0 to 255"


def test_values_far_from_zero_take_their_own_range(tmp_path):
    """A thermal camera: hundredths of a kelvin."""
    arrays = values(31_000, low=29_000)
    data, pixels = loaded(folder_of(tmp_path / "set", arrays))
    for found, array in zip(pixels, arrays, strict=True):
        assert np.array_equal(found[..., 0], (array.astype(int) - 29_000) * 256 // 2_001)
    assert "29,000 to 31,000 became 0 to 255" in data.spec.notes[0]
    assert (min(found.min() for found in pixels), max(found.max() for found in pixels)) == (0, 255)


@pytest.mark.parametrize(("dim", "bright"), [(200, 65_535), (14, 4_095)])
def test_images_that_one_bright_pixel_makes_black_are_told(dim, bright, tmp_path):
    """The set's range serves all images alike; where it leaves nothing of some, that is said."""
    arrays = [array % (dim + 1) for array in values(dim)]
    arrays[0][0, 0] = bright
    data, pixels = loaded(folder_of(tmp_path / "set", arrays))
    assert all(not found.any() for found in pixels[1:])
    assert pixels[0].max() == 255
    assert data.spec.notes[1].startswith("11 images of more than 8 bits a value that became one single grey")


def test_negative_and_wide_integers_take_their_own_range(tmp_path):
    """Hounsfield units in a 32-bit TIFF."""
    arrays = values(3_071, low=-1_024, dtype=np.int32)
    data, pixels = loaded(folder_of(tmp_path / "set", arrays, suffix=".tif"))
    for found, array in zip(pixels, arrays, strict=True):
        assert np.array_equal(found[..., 0], (array + 1_024) >> 4)
    assert "32-bit images with values from -1,024 to 3,071: -1,024 to 3,071 became 0 to 255" in data.spec.notes[0]


@pytest.mark.parametrize(("low", "high", "ends"), [(0.0, 1.0, (0, 1)), (0.0, 200.0, (0, 255)), (-2.0, 2.0, (-2, 2))])
def test_floating_point_images_are_scaled(low, high, ends, tmp_path):
    random = np.random.default_rng(0)
    arrays = [random.uniform(low, high, (SIDE, SIDE)).astype(np.float32) for _ in range(12)]
    arrays[3][0, :2] = low, high
    data, pixels = loaded(folder_of(tmp_path / "set", arrays, suffix=".tif"))
    for found, array in zip(pixels, arrays, strict=True):
        expected = (array.astype(np.float64) - ends[0]) / (ends[1] - ends[0]) * 255
        assert np.abs(found[..., 0] - expected).max() <= 0.5 + 1e-9
    assert "floating-point images" in data.spec.notes[0]


def test_small_images_keep_their_values_beside_deep_ones(tmp_path):
    deep, plain = values(4095)[:6], [array.astype(np.uint8) for array in values(255)[6:]]
    data, pixels = loaded(folder_of(tmp_path / "set", deep + plain))
    for found, array in zip(pixels, [array >> 4 for array in deep] + plain, strict=True):
        assert np.array_equal(found[..., 0], array)
    assert data.spec.notes[0].startswith("6 16-bit images")


def test_deep_grey_images_are_grey_in_three_channels_and_lie_as_held(tmp_path):
    arrays = values(4095)
    root = folder_of(tmp_path / "set", arrays)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(arrays[0]).save(root / "ant" / "00.png", exif=exif)
    _, pixels = loaded(root, channels=3)
    assert np.array_equal(pixels[0], np.repeat(np.rot90(arrays[0] >> 4, -1)[..., None], 3, axis=2))
    assert np.array_equal(pixels[1], np.repeat((arrays[1] >> 4)[..., None], 3, axis=2))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def deep_png(array: np.ndarray) -> bytes:
    """16 bits a value: [h, w, 2] grey and alpha, 3 RGB, 4 RGBA; Pillow itself cannot write these."""
    height, width, channels = array.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_colours_keep_their_upper_eight_bits_or_are_refused(channels, tmp_path):
    random = np.random.default_rng(channels)
    arrays = [random.integers(0, 65_536, (SIDE, SIDE, channels)).astype(np.uint16) for _ in range(12)]
    root = folder_of(tmp_path / "set", [array[..., 0].astype(np.uint8) for array in arrays])
    paths = sorted(root.glob("*/*.png"))
    for path, array in zip(paths, arrays, strict=True):
        path.write_bytes(deep_png(array))
    data, pixels = loaded(root, channels=3)
    for found, array in zip(pixels, arrays, strict=True):
        grey_or_colour = array[..., :1].repeat(3, axis=2) if channels == 2 else array[..., :3]
        assert np.array_equal(found, grey_or_colour >> 8)
    assert "12 images of 16-bit colour: the upper 8 bits of each value are taken" in data.spec.notes
    for path, array in zip(paths, arrays, strict=True):
        path.write_bytes(deep_png(array >> 8))  # 0 to 255, of which nothing would be left
    with pytest.raises(ValueError, match=r"12 of the 12 .*ant/00\.png \(its 16-bit colours use low values only"):
        loaded(root, channels=3)


def test_sixteen_bits_a_pixel_are_not_sixteen_a_value(tmp_path):
    """A bitmap of 5, 6 and 5 bits."""
    pixel = struct.pack("<H", 0b11111_000000_11111)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    header = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 74, 0, 0, 66) + header + masks + pixel * 4)
    found = read_image(tmp_path / "a.bmp", size=(2, 2), channels=3)
    assert not isinstance(found, Range)
    assert found[0, 0].tolist() == [255, 0, 255]


def test_what_is_lost_of_an_image_is_told(tmp_path):
    root = folder_of(tmp_path / "set", [array.astype(np.uint8) for array in values(255)])
    clear = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), np.uint8))
    clear.save(root / "ant" / "00.png")
    clear.convert("RGB").quantize(8).save(root / "ant" / "01.png", transparency=b"\0\1\2\3")
    clear.convert("LA").save(root / "ant" / "02.png")
    frames = [Image.new("L", (SIDE, SIDE), value) for value in (40, 200)]
    frames[0].save(root / "bee" / "stack.tif", save_all=True, append_images=frames[1:])
    data, pixels = loaded(root)
    assert data.spec.notes == (
        "1 image of several frames or pages, of which the first is taken",
        "3 images with transparency, which is dropped",
    )
    assert np.array_equal(pixels[-1], np.full((SIDE, SIDE, 1), 40))


@given(low=st.integers(-(2**31), 2**31 - 1), high=st.integers(-(2**31), 2**31 - 1))
def test_any_range_of_integers_maps_in_order_to_bytes(low, high):
    low, high = min(low, high), max(low, high)
    some = np.unique(np.linspace(low, high, 50).astype(np.int64).clip(low, high))
    found = scale(some, Range("32-bit", float(low), float(high)))
    assert found.min() >= 0
    assert found.max() <= 255
    assert (np.diff(found) >= 0).all()
    if not 0 <= low <= high <= 255 and low < high:
        assert found[-1] - found[0] >= 63  # never all in the dark


@pytest.mark.parametrize(("width", "height"), [(1, 40_000), (40_000, 1)])
def test_a_line_that_would_be_scaled_to_gigabytes_is_refused(width, height, tmp_path):
    Image.new("L", (width, height)).save(tmp_path / "line.png")
    with pytest.raises(UnreadableError, match=r"scaled to cover 256x256, its .* pixels would be 2,621,440,000"):
        read_image(tmp_path / "line.png", size=(256, 256), channels=3)
    assert read_image(tmp_path / "line.png", size=(4, 4), channels=3).shape == (4, 4, 3)


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    """Images of which each takes more than half of the memory that is given."""
    arrays = [np.full((200, 200), number, np.uint8) for number in range(12)]
    root = folder_of(tmp_path / "set", arrays)
    at_once, most = 0, 0
    lock, load_pixels = threading.Lock(), images.Image.Image.convert

    def counted(image, *arguments, **keys):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.01)
        converted = load_pixels(image, *arguments, **keys)
        with lock:
            at_once -= 1
        return converted

    monkeypatch.setattr(images.Image.Image, "convert", counted)
    loaded(root, channels=3)
    assert most > 1
    most = 0
    monkeypatch.setattr(images, "MEMORY", MemoryBudget(200 * 200 * images.PIXEL_BYTES * 3 // 2))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other-cache"))
    _, pixels = loaded(root, channels=3)
    assert most == 1
    assert [int(found[0, 0, 0]) for found in pixels] == list(range(12))
