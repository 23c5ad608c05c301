"""Images as people have them: every mode and depth against NumPy, in ``describe`` and in ``load``."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from levelhead.data import DataError, Reading, describe, load

WIDTH, HEIGHT = 7, 5
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
DEEP = RNG.integers(0, 65536, (12, HEIGHT, WIDTH)).astype(np.uint16)
REAL = RNG.normal(50, 20, (12, HEIGHT, WIDTH)).astype(np.float32)


def converted(mode):
    return [Image.fromarray(pixels).convert(mode) for pixels in COLOUR]


#: By what they are: the images, the suffix, the values with white at 1, and what is said.
KINDS = {
    "1 bit": ([Image.fromarray(g > 99) for g in GREY], "png", (GREY > 99) * 1.0, ""),
    "L": ([Image.fromarray(g) for g in GREY], "png", GREY / 255, ""),
    "L as BMP": ([Image.fromarray(g) for g in GREY], "bmp", GREY / 255, ""),
    "LA": ([Image.fromarray(g).convert("LA") for g in GREY], "png", GREY / 255, "had alpha, which was dropped"),
    "P": (converted("P"), "png", np.stack([np.asarray(i.convert("RGB")) for i in converted("P")]) / 255, ""),
    "P of greys": ([Image.fromarray(g).convert("P") for g in GREY], "png", GREY / 255, ""),
    "RGB": (converted("RGB"), "png", COLOUR / 255, ""),
    "RGBA": (converted("RGBA"), "png", COLOUR / 255, "had alpha, which was dropped"),
    "CMYK": (converted("CMYK"), "tif", COLOUR / 255, ""),
    "I;16 PNG": ([Image.fromarray(d) for d in DEEP], "png", DEEP / 65535, ""),
    "I;16 TIFF": ([Image.fromarray(d) for d in DEEP], "tif", DEEP / 65535, ""),
    "12 bits in 16": ([Image.fromarray(d >> 4) for d in DEEP], "png", (DEEP >> 4) / 65535, "no value above 4095"),
    "I": ([Image.fromarray(d.astype(np.int32) << 15) for d in DEEP], "tif", (DEEP * 2.0**15) / (2**31 - 1), "32 bits"),
    "F": ([Image.fromarray(r) for r in REAL], "tif", REAL.astype(np.float64), "hold real numbers, left as they are"),
}


def folder(root, images, suffix, parts=("",)):
    """The images in turn over the classes ants and bees, and over the parts."""
    for i, image in enumerate(images):
        place = root / parts[i % len(parts)] / ("ants" if i // len(parts) % 2 else "bees")
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{i:02}.{suffix}")
    return root


def pixels_of(data):
    return torch.cat([part.inputs for part in (data.train, data.validation, data.test)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_and_depth(tmp_path, kind):
    images, suffix, values, said = KINDS[kind]
    root = folder(tmp_path / "insects", images, suffix)
    channels = np.moveaxis(values, 3, 0).reshape(3, -1) if values.ndim == 4 else values.reshape(1, -1)
    found = describe(root)
    assert found.rows == 12
    assert len(found.features) == len(channels)
    for feature, channel in zip(found.features, channels, strict=True):
        assert (feature.count, feature.missing) == (channel.size, 0)
        # Float64 of whole numbers: the rounding of the division and of a few sums.
        assert feature.mean == pytest.approx(channel.mean(), rel=1e-13)
        assert feature.std == pytest.approx(channel.std(), rel=1e-12)
        assert (feature.min, feature.max) == pytest.approx((channel.min(), channel.max()), rel=1e-15)
    data = load(root, standardize=False)
    seen = pixels_of(data).movedim(1, 0).flatten(1).sort().values
    torch.testing.assert_close(seen, torch.from_numpy(channels).float().sort().values, rtol=3e-7, atol=0)
    for notes in (" ".join(found.notes), " ".join(data.notes)):
        assert said in notes
        assert ("alpha" in notes) == ("alpha" in said)


def test_the_bits_that_a_tiff_says(tmp_path):
    """A tag of 12 bits puts white at 4095. Pillow writes none, so the tag is set by hand, in an uncompressed strip."""
    values = (DEEP[0] >> 4).ravel()[:34]
    packed = np.zeros(51, np.uint8)
    packed[0::3], packed[1::3] = values[::2] >> 4, (values[::2] & 15) << 4 | values[1::2] >> 8
    packed[2::3] = values[1::2] & 255
    tags = [(256, 4, 34), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 1)]
    tags.append((279, 4, 51))
    entries = b"".join(
        np.array([tag, kind], "<u2").tobytes() + np.array([1, value], "<u4").tobytes() for tag, kind, value in tags
    )
    place = (8 + 51 + 1).to_bytes(4, "little")
    body = packed.tobytes() + b"\0" + len(tags).to_bytes(2, "little") + entries + bytes(4)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "t.tif").write_bytes(b"II*\0" + place + body)
    (found,) = describe(tmp_path).features
    assert found.mean == pytest.approx((values / 4095).mean(), rel=1e-13)


def test_mixed_kinds(tmp_path):
    """A grey image among colour ones counts in each channel; what is deep keeps its depth."""
    root = folder(
        tmp_path / "insects", [*converted("RGB")[:10], Image.fromarray(DEEP[0]), Image.fromarray(REAL[0])], "tif"
    )
    found = describe(root)
    for channel, feature in enumerate(found.features):
        parts = [COLOUR[:10, ..., channel].ravel() / 255, DEEP[0].ravel() / 65535, REAL[0].ravel().astype(np.float64)]
        truth = np.concatenate(parts)
        assert feature.count == truth.size
        assert feature.mean == pytest.approx(truth.mean(), rel=1e-12)
        assert feature.std == pytest.approx(truth.std(), rel=1e-12)
    notes = " ".join(load(root).notes)
    for text in (notes, " ".join(found.notes)):
        assert "2 of 12 images are grey and were read as colour" in text
        assert "1 of 12 images hold real numbers" in text


def test_photos_of_all_sizes_are_brought_to_one(tmp_path):
    images = [Image.fromarray(np.full((20 + i, 40 - i, 3), 10 * i, np.uint8)) for i in range(12)]
    root = folder(tmp_path / "photos", images, "png")
    data = load(root, standardize=False)
    assert data.input_shape == (3, 64, 64)
    assert any("12 sizes were brought to 64 x 64; --image-size takes another" in note for note in data.notes)
    data = load(root, standardize=False, reading=Reading.of({"image_size": "8x6"}))
    assert data.input_shape == (3, 6, 8)
    assert sorted(pixels_of(data)[:, 0, 3, 3].mul(255).round().tolist()) == [10 * i for i in range(12)]
    ramp = np.linspace(0, 60000, 64).astype(np.uint16)[None].repeat(32, 0)
    deep = folder(tmp_path / "deep", [Image.fromarray(ramp)] * 12, "png")
    small = load(deep, standardize=False, reading=Reading(image_size=(16, 8))).train.inputs[0, 0, 0] * 65535
    # Means of four neighbours, weighed by distance: inside, those of a ramp are the ramp.
    np.testing.assert_allclose(small[1:-1], ramp[0].reshape(16, 4).mean(1)[1:-1], atol=1)
    for feature in describe(root, reading=Reading(image_size=(8, 6))).features:
        assert (feature.count, feature.mean) == (12 * 48, pytest.approx(55 / 255, rel=1e-12))


def test_photos_are_turned_upright(tmp_path):
    pixels = COLOUR[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    root = tmp_path / "photos"
    for i in range(6):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "ab"[i % 2] / f"{i}.webp", lossless=True, exif=exif.tobytes())
    data = load(root, standardize=False)
    upright = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1)
    assert torch.equal((data.train.inputs[0] * 255).round().byte(), upright)
    assert "6 of 6 images were turned upright, as the camera says." in data.notes


@pytest.mark.parametrize(
    ("parts", "sizes", "said"),
    [
        (("train", "val", "test"), (12, 12, 12), "as the source sets them apart"),
        (("train", "valid"), (18, 10, 8), "were taken from the validation data"),
        (("Train", "Test"), (14, 4, 18), "a quarter of its training rows became validation"),
    ],
)
def test_folders_of_a_split(tmp_path, parts, sizes, said):
    images = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in range(36)]
    root = folder(tmp_path / "insects", images, "png", parts)
    data = load(root, standardize=False)
    assert data.classes == ("ants", "bees")
    assert tuple(len(part) for part in (data.train, data.validation, data.test)) == sizes
    of_train = {round(float(v) * 255) % len(parts) for v in data.train.inputs[:, 0, 0, 0]}
    assert of_train == {0}, "a training image is one of the folder train"
    assert said in " ".join(data.notes)
    for notes in (data.notes, describe(root).notes):
        assert "2 classes: ants (18), bees (18)." in notes
    shutil.rmtree(root / parts[-1] / "bees")
    assert f"No folder insects/{parts[-1]}/bees: the class is not in that part." in describe(root).notes


def test_what_lies_beside_a_split_is_no_class(tmp_path):
    """Competitions give test images without classes, archives a folder of their own."""
    images = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in range(36)]
    root = folder(tmp_path / "insects", images, "png", ("train", "val"))
    for name in ("test", "__MACOSX"):
        (root / name).mkdir()
        images[0].save(root / name / "0.png")
    data = load(root)
    assert (data.classes, len(data.train)) == (("ants", "bees"), 18)
    assert "Left out, as no part of the split with folders of classes: __MACOSX, test." in data.notes
    shutil.rmtree(root / "val")
    data = load(root)
    assert (data.classes, len(data.train)) == (("ants", "bees"), 10)


def test_a_class_of_the_name_train_is_a_class(tmp_path):
    """A folder train beside others that are no parts of a split, and without folders below, is a class like them."""
    for name in ("train", "plane"):
        (tmp_path / "vehicles" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(GREY[i]).save(tmp_path / "vehicles" / name / f"{i}.png")
    assert load(tmp_path / "vehicles").classes == ("plane", "train")


def test_damaged_images_and_empty_classes(tmp_path):
    root = folder(tmp_path / "insects", [Image.fromarray(g) for g in GREY], "png")
    broken = root / "ants" / "01.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    for reader in (describe, load):
        with pytest.raises(DataError, match=r"01.png: the image cannot be read \(.*--skip-damaged"):
            reader(root)
    found, data = describe(root, reading=Reading(skip_damaged=True)), load(root, reading=Reading(skip_damaged=True))
    assert (found.rows, len(pixels_of(data))) == (11, 11)
    for notes in (found.notes, data.notes):
        assert "1 damaged image was left out: ants/01.png." in notes
        assert "2 classes: ants (5), bees (6)." in notes
    left = np.concatenate([GREY[i].ravel() for i in range(12) if i != 1]) / 255
    assert found.features[0].mean == pytest.approx(left.mean(), rel=1e-13)
    (root / "wasps").mkdir()
    for reader in (describe, load):
        with pytest.raises(DataError, match=r"wasps: no image in the folder of this class"):
            reader(root)


def test_images_without_classes_have_statistics(tmp_path):
    for i, pixels in enumerate(GREY):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    assert describe(tmp_path).features[0].mean == pytest.approx((GREY / 255).mean(), rel=1e-13)
    with pytest.raises(DataError, match="no subfolders"):
        load(tmp_path)
