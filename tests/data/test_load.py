"""Loading: what comes out of every kind of source, against plain NumPy."""

import csv
import io
import math
import sys

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from levelhead import Standardizer, statistics
from levelhead import data as lhd
from levelhead.data import load

# (x - mean) / std in float64 and rounded once to float32: half a unit in the last place, values up to some 10.
FLOAT32 = 2e-6


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def parts(data):
    return data.train, data.validation, data.test


@pytest.fixture
def table(tmp_path):
    """60 rows: a number with gaps, a constant that has no short binary form, a category with a gap, two classes."""
    rng = np.random.default_rng(0)
    rows = [["size", "constant", "colour", "kind"]]
    for i in range(60):
        size = "" if i % 10 == 3 else f"{rng.normal(1e6, 1):.6f}"
        colour = "" if i == 7 else ["red", "green", "blue"][i % 3]
        rows.append([size, "0.1", colour, ["cat", "dog"][i % 2]])
    return write(tmp_path / "pets.csv", rows)


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "sizes"),
    [
        ("mnist5k", (1, 28, 28), 10, (3000, 1000, 1000)),
        ("digits", (1, 8, 8), 10, (1079, 359, 359)),
        ("breast_cancer", (30,), 2, (343, 113, 113)),
        ("wine", (13,), 3, (106, 36, 36)),
        ("diabetes", (10,), 1, (266, 88, 88)),
    ],
)
def test_built_in(name, shape, outputs, sizes):
    data = load(name)
    assert (data.input_shape, data.outputs) == (shape, outputs)
    assert tuple(map(len, parts(data))) == sizes
    axes = (0, 2, 3) if len(shape) == 3 else 0
    x = data.train.inputs.numpy().astype(np.float64)
    assert data.train.inputs.dtype == torch.float32
    np.testing.assert_allclose(x.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axes), 1, atol=1e-5)
    if data.task == "regression":
        assert all(part.targets.shape == (len(part), 1) and part.targets.dtype == torch.float32 for part in parts(data))
        assert abs(float(data.train.targets.double().mean())) < 1e-5
        assert abs(float(data.train.targets.double().std(correction=0)) - 1) < 1e-5
    else:
        shares = [part.targets.bincount(minlength=outputs) / len(part) for part in parts(data)]
        assert all((share - shares[0]).abs().max() < 0.02 for share in shares), "the split is not stratified"
        assert all(part.targets.dtype == torch.int64 for part in parts(data))
    description = data.describe()
    assert description["sizes"] == dict(zip(("train", "validation", "test"), sizes, strict=True))
    assert description["notes"] == list(data.notes)


def test_the_split_keeps_every_row_once_and_follows_the_seed():
    first, again, other = load("digits", standardize=False), load("digits", standardize=False), load("digits", seed=1)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(parts(first), parts(again), strict=True))
    assert not torch.equal(first.train.targets, other.train.targets)
    from sklearn.datasets import load_digits

    everything = torch.cat([part.inputs for part in parts(first)]).flatten(1).numpy() * 16
    expected = load_digits().data
    assert np.array_equal(np.sort(everything @ np.arange(64)), np.sort(expected @ np.arange(64)))
    assert not torch.equal(first.train.targets, first.train.targets.sort().values), "the rows are sorted by class"


def test_inputs_as_they_are_on_request():
    data = load("wine", standardize=False)
    assert data.train.inputs.mean() > 10
    assert "Inputs were not standardized." in data.notes


def test_csv_numbers_categories_and_gaps(table):
    data = load(table, "kind")
    assert data.task == "classification"
    assert data.classes == ("cat", "dog")
    assert data.features == ("size", "constant", "colour=blue", "colour=green", "colour=red", "colour=(missing)")
    assert tuple(map(len, parts(data))) == (36, 12, 12)
    raw = load(table, "kind", standardize=False)
    frame = pl.read_csv(table)
    # The fill is the mean of the known training values: after standardizing, the gaps are at 0.
    filled = torch.cat([part.inputs[:, 0] for part in parts(data)])
    assert int((filled.abs() < FLOAT32).sum()) == frame["size"].null_count() == 6
    # float32 has no digits left for a spread of 1 at 1e6; standardizing in float64 keeps them.
    known = np.sort(frame["size"].drop_nulls().to_numpy())
    seen = np.sort(filled[filled.abs() >= FLOAT32].double().numpy())
    slope, offset = np.polyfit(known - 1e6, seen, 1)
    np.testing.assert_allclose(seen, slope * (known - 1e6) + offset, atol=1e-5)
    assert all((part.inputs[:, 1] == 0).all() for part in parts(data)), "a constant is centred, as scikit-learn does"
    hot = torch.cat([part.inputs[:, 2:] for part in parts(raw)])
    assert torch.equal(hot.sum(1), torch.ones(60))
    assert hot.sum(0).tolist() == [20, 19, 20, 1]
    notes = " ".join(data.notes)
    assert "Column 'size' has no value in 6 of 60 rows." in notes
    assert "mean of the training rows" in notes
    assert "3 categories" in notes
    assert "1 constant one was centred, not scaled (constant)" in notes


def test_the_statistics_are_those_of_the_training_rows_alone(tmp_path):
    rng = np.random.default_rng(0)
    rows = [["x", "y"], *([f"{rng.normal()}", f"{rng.normal()}"] for _ in range(50))]
    path = write(tmp_path / "t.csv", rows)
    before = load(path, "y")
    raw = load(path, "y", standardize=False)
    test_values = {float(v) for v in raw.test.inputs[:, 0]}
    for row in rows[1:]:
        if any(abs(float(row[0]) - v) < 1e-6 for v in test_values):
            row[0] = str(float(row[0]) * 1000)
    after = load(write(path, rows), "y")
    assert torch.equal(before.train.inputs, after.train.inputs)
    assert torch.equal(before.validation.inputs, after.validation.inputs)
    assert not torch.equal(before.test.inputs, after.test.inputs)


def test_a_constant_column_does_not_drown_the_others(tmp_path):
    """The year of a survey: 2024 in every training row, and in a row that is not one of them 2025."""
    rows = [["year", "x", "y"], *(["2024", str(i), str(i % 2)] for i in range(40))]
    kept = load(write(tmp_path / "t.csv", rows), "y")
    from sklearn.preprocessing import StandardScaler

    raw = load(tmp_path / "t.csv", "y", standardize=False).train.inputs.double().numpy()
    np.testing.assert_allclose(kept.train.inputs.numpy(), StandardScaler().fit_transform(raw), atol=FLOAT32)
    test_x = load(tmp_path / "t.csv", "y", standardize=False).test.inputs[0, 1]
    rows[1 + int(test_x)][0] = "2025"
    other = load(write(tmp_path / "t.csv", rows), "y")
    assert other.test.inputs[:, 0].tolist() == [1.0, *[0.0] * (len(other.test) - 1)]


def test_parquet_gives_what_the_csv_gives(table, tmp_path):
    path = tmp_path / "pets.parquet"
    pl.read_csv(table).write_parquet(path)
    for a, b in zip(parts(load(table, "kind")), parts(load(path, "kind")), strict=True):
        torch.testing.assert_close(a.inputs, b.inputs, rtol=0, atol=0)
        assert torch.equal(a.targets, b.targets)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_byte_order_mark_spaces_and_quotes(tmp_path, separator):
    rows = [["a", "text", "y"], *([f" {i}.5 ", 'two\nlines, "quoted"' if i % 2 else "b", i % 2] for i in range(20))]
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())
    data = load(path, "y", standardize=False)
    assert data.features == ("a", "text=b", 'text=two\nlines, "quoted"')
    seen = torch.cat([part.inputs[:, 0] for part in parts(data)]).sort().values
    assert seen.tolist() == [i + 0.5 for i in range(20)]


@pytest.mark.parametrize(
    ("values", "task", "reason"),
    [
        (["yes", "no"] * 15, "classification", "texts, 2 distinct"),
        ([0, 1, 2] * 10, "classification", "3 distinct whole numbers"),
        ([0.5, 1, 2] * 10, "regression", "not whole"),
        (list(range(30)), "regression", "30 distinct numbers, more than 20"),
        ([1.0, 2.0] * 15, "classification", "2 distinct whole numbers"),
    ],
)
def test_the_task_follows_the_stated_rule(tmp_path, values, task, reason):
    path = write(tmp_path / "t.csv", [["x", "y"], *([i, v] for i, v in enumerate(values))])
    data = load(path, "y")
    assert data.task == task
    assert reason in data.notes[0]


def test_the_task_can_be_asked_for(tmp_path):
    path = write(tmp_path / "t.csv", [["x", "y"], *([i, i % 3] for i in range(30))])
    data = load(path, "y", task="regression")
    assert (data.task, data.outputs, data.classes) == ("regression", 1, ())
    assert "as asked for" in data.notes[0]


def test_a_target_is_found_by_its_name(tmp_path):
    path = write(tmp_path / "t.csv", [["x", "Label"], *([i, i % 3] for i in range(30))])
    data = load(path)
    assert data.features == ("x",)
    assert any("by its name" in note for note in data.notes)


def test_identifiers_and_empty_columns_are_left_out_and_said(tmp_path):
    path = write(tmp_path / "t.csv", [["id", "void", "x", "y"], *([f"n{i}", "", i, i % 2] for i in range(100))])
    data = load(path, "y")
    assert data.features == ("x",)
    assert "Column 'id' was left out: it looks like an identifier, 100 distinct texts in 100 rows." in data.notes
    assert "Column 'void' was left out: it is empty." in data.notes


def image_folder(root, colour=False, size=(5, 4)):
    rng = np.random.default_rng(0)
    for kind in ("ants", "bees"):
        (root / kind).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (size[1], size[0], 3) if colour else (size[1], size[0]), dtype=np.uint8)
            Image.fromarray(pixels).save(root / kind / f"{i}.png")
    return root


@pytest.mark.parametrize("colour", [False, True])
def test_image_folder(tmp_path, colour):
    root = image_folder(tmp_path / "insects", colour)
    (root / "ants" / "notes.txt").write_text("not an image")
    data = load(root, standardize=False)
    assert data.input_shape == (3 if colour else 1, 4, 5)
    assert data.classes == ("ants", "bees")
    assert tuple(map(len, parts(data))) == (12, 4, 4)
    expected = {np.asarray(Image.open(f)).reshape(4, 5, -1).transpose(2, 0, 1).tobytes() for f in root.rglob("*.png")}
    images = torch.cat([part.inputs for part in parts(data)])
    assert {(image * 255).round().to(torch.uint8).numpy().tobytes() for image in images} == expected
    assert "1 files that are not images were left out." in data.notes
    mean = load(root).train.inputs.double().mean((0, 2, 3))
    assert mean.abs().max() < 1e-6


def test_grey_among_colour_becomes_colour(tmp_path):
    root = image_folder(tmp_path / "insects", colour=True)
    Image.open(root / "ants" / "0.png").convert("L").save(root / "ants" / "0.png")
    data = load(root)
    assert data.input_shape == (3, 4, 5)
    assert "1 of 20 images are grey and were read as colour, like the others." in data.notes


def test_npz(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6, 6)), np.arange(50) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y, other=x.mean((1, 2)))
    data = load(tmp_path / "a.npz", standardize=False)
    assert data.input_shape == (1, 6, 6)
    seen = torch.cat([part.inputs for part in parts(data)]).numpy()
    assert np.array_equal(np.sort(seen, None), np.sort(x.astype(np.float32), None))
    assert load(tmp_path / "a.npz", "other").task == "regression"


def test_npz_channels_last_texts_and_many_classes(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (400, 5, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["u", "v"] * 200), many=np.arange(400) % 40, wide=np.arange(400) * 7)
    data = load(tmp_path / "a.npz", standardize=False)
    assert (data.input_shape, data.classes) == ((3, 5, 4), ("u", "v"))
    assert float(data.train.inputs.max()) == 255
    assert load(tmp_path / "a.npz", "many").outputs == 40
    assert load(tmp_path / "a.npz", "wide").task == "regression"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the user's and gives its name; found from the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(name, body):
        (tmp_path / f"{name}.py").write_text(f"import torch\nfrom torch.utils.data import TensorDataset\n{body}\n")
        return name

    return make


def test_a_function_of_the_users(module):
    name = module(
        "users_own_a",
        "x = torch.arange(60.0).view(30, 2)\ny = torch.arange(30) % 3\n"
        "def pairs(): return (x[:18], y[:18]), (x[18:], y[18:])\n"
        "def sets(): return TensorDataset(x[:18], y[:18]), TensorDataset(x[18:], y[18:])\n",
    )
    data = load(f"{name}:pairs", standardize=False)
    assert torch.equal(data.train.inputs, torch.arange(36.0).view(18, 2)), (
        "training rows are the function's, all of them"
    )
    assert (len(data.validation), len(data.test)) == (6, 6)
    others = torch.cat([data.validation.inputs, data.test.inputs])
    assert torch.equal(others[:, 0].sort().values, torch.arange(36.0, 60.0, 2))
    assert any("taken from the validation data" in note for note in data.notes)
    for reference in (f"{name}:sets", f"./{name}.py:sets"):
        other = load(reference, standardize=False)
        assert torch.equal(other.test.inputs, data.test.inputs)
        assert torch.equal(other.test.targets, data.test.targets)


def test_targets_are_whole_numbers_of_any_size_and_booleans(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2))
    for values, names in (
        (np.arange(60) % 2 > 0, ("0", "1")),
        (np.arange(60) % 3 + 2**62, tuple(str(2**62 + i) for i in range(3))),
        ((np.arange(60) % 2).astype(np.uint8), ("0", "1")),
    ):
        np.savez(tmp_path / "t.npz", x=x, y=values)
        data = load(tmp_path / "t.npz")
        assert data.classes == names
        assert sorted(torch.cat([data.train.targets, data.validation.targets, data.test.targets]).bincount().tolist()) \
            == [60 // len(names)] * len(names)  # fmt: skip
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(60, dtype=np.uint64) % np.uint64(2) + np.uint64(2**63))
    with pytest.raises(lhd.DataError, match=r"t\.npz: y holds integers of 2\*\*63 and more"):
        load(tmp_path / "t.npz")
    text = "x,y\n" + "".join(f"{i / 7},{2**62 + i % 3}\n" for i in range(60))
    (tmp_path / "t.csv").write_text(text)
    assert load(tmp_path / "t.csv").classes == tuple(str(2**62 + i) for i in range(3))


def test_what_a_function_returns_is_described_and_loaded_as_it_is(module):
    name = module(
        "users_own_b",
        "x = torch.arange(120).view(60, 2)\ny = torch.arange(60) * 7\n"
        "far = x + 2**60, y + 2**61\n"
        "def large(): return far, far\n"
        "def bf16(): return (x.bfloat16(), y % 2), (x.bfloat16(), y % 2)\n"
        "def sparse(): return (x.double().to_sparse(), y % 2), (x.double(), y % 2)\n"
        "class Fails(TensorDataset):\n    def __getitem__(self, i): raise RuntimeError('no disk')\n"
        "def fails(): return Fails(x, y), Fails(x, y)\n",
    )
    first, _ = lhd.describe(f"{name}:large").features
    assert (first.mean, first.min, first.max) == tuple(map(float, (2**60 + 59, 2**60, 2**60 + 118)))
    data, near = load(f"{name}:large"), torch.arange(60.0).double()
    wanted = (near - near.mean()) / near.std(correction=0)
    torch.testing.assert_close(data.train.targets[:, 0].double(), wanted, rtol=1e-6, atol=1e-6)
    for kind in ("bf16", "sparse"):
        assert torch.equal(load(f"{name}:{kind}", standardize=False).train.inputs[:, 0], torch.arange(0.0, 120.0, 2))
    with pytest.raises(lhd.DataError, match=r"pairs \(input, target\) of one shape \(RuntimeError: no disk\)"):
        load(f"{name}:fails")


def test_one_column_of_inputs_needs_no_second_dimension(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.arange(60.0), y=np.arange(60) % 2)
    assert load(tmp_path / "t.npz").input_shape == (1,)


def test_what_float64_cannot_square_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{(i + 1) * 1e200},{i % 2}\n" for i in range(40)))
    with pytest.raises(lhd.DataError, match=r"column 'x': values too large for float64 to square; rescale them"):
        load(tmp_path / "t.csv")
    np.savez(tmp_path / "x.npz", x=np.array([1e200, -1e200, 3e200])[:, None].repeat(2, 1))
    for file in ("t.csv", "x.npz"):  # and says so without a warning where it is described
        assert lhd.describe(tmp_path / file).features[0].std == math.inf
        with pytest.raises(lhd.DataError, match=r"'x0?': values too large for float64 to square"):
            statistics.show(str(tmp_path / file), as_json=True, save=tmp_path / "s.json", reading=lhd.Reading())
    with pytest.raises(ValueError, match="too large for float64 to square, in feature 1; rescale"):
        Standardizer().fit(torch.tensor([[1.0, 1e200], [2.0, -1e200]], dtype=torch.float64))
    with pytest.raises(lhd.DataError, match="the seed must be at least 0, got -1"):
        load("wine", seed=-1)


def test_public_names():
    assert set(lhd.BUILT_IN) == {"mnist5k", "digits", "breast_cancer", "wine", "diabetes"}
