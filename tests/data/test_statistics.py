"""Streaming statistics against NumPy in float64, whatever the file and however it is cut."""

import csv
import itertools
import json
import math
import subprocess
import sys
from functools import reduce

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from levelhead import Moments, records
from levelhead.data import BUILT_IN, DataError, arrays, describe, load, tables
from levelhead.data.summary import Summary

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Every file here is read in many pieces."""
    monkeypatch.setattr(arrays, "_CHUNK", 2**10)
    monkeypatch.setattr(tables, "_CHUNK", 2**10)
    monkeypatch.setattr(tables, "_ROWS", 100)


@pytest.fixture
def values():
    """Offsets that a naive formula does not survive, gaps, and one infinity."""
    x = np.random.default_rng(0).normal(size=(1000, 3)) * [1, 1e-3, 50] + [1e4, -7, 0]
    x[::7, 1] = np.nan
    x[500, 2] = np.inf
    return x


def check(features, values):
    for feature, column in zip(features, np.asarray(values, np.float64).T, strict=True):
        known = column[np.isfinite(column)]
        assert (feature.count, feature.missing) == (len(known), np.isnan(column).sum())
        assert feature.infinite == np.isinf(column).sum()
        assert (feature.min, feature.max) == (known.min(), known.max())
        # Float64 throughout: what is left is the rounding of sums of 1,000 terms.
        assert feature.mean == pytest.approx(known.mean(), rel=1e-12, abs=1e-13)
        assert feature.std == pytest.approx(known.std(), rel=1e-9)


@pytest.mark.parametrize("pad", ["", " "])
def test_csv(tmp_path, values, pad):
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, "text"])
        for i, row in enumerate(values):
            cells = [pad + ("NA" if math.isnan(v) else repr(float(v))) + pad for v in row]
            writer.writerow([*cells, "" if i % 10 == 0 else 'a "quoted"\nline, with a comma'])
    calls = []
    description = describe(path, progress=lambda done, total: calls.append((done, total)))
    assert description.rows == 1000
    assert [feature.name for feature in description.features] == [*NAMES, "text"]
    check(description.features[:3], values)
    text = description.features[3]
    assert (text.kind, text.count, text.missing) == ("text", 900, 100)
    assert calls[-1] == (path.stat().st_size,) * 2
    assert len(calls) > 10
    assert calls == sorted(calls)


def test_a_bad_cell_deep_in_a_csv_is_found(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{i},1\n" for i in range(2, 1000)) + "oops,1\n1,1\n")
    with pytest.raises(DataError, match=r"row 1000, column 'x': 'oops' is not a number"):
        describe(path)


def test_parquet(tmp_path, values):
    frame = pl.DataFrame(dict(zip(NAMES, values.T, strict=True)))
    frame = frame.with_columns(
        b=pl.col("b").fill_nan(None),
        whole=pl.int_range(1000),
        yes=pl.int_range(1000) % 2 == 0,
        text=pl.when(pl.int_range(1000) % 4 > 0).then(pl.lit("t")),
        day=pl.date(2020, 1, 1),
    )
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=300)
    calls = []
    description = describe(tmp_path / "t.parquet", progress=lambda *done: calls.append(done))
    check(description.features[:3], values)
    whole, yes, text = description.features[3:]
    assert (whole.mean, whole.max, yes.mean) == (499.5, 999, 0.5)
    assert (text.kind, text.count, text.missing) == ("text", 750, 250)
    assert description.notes == ("Column 'day' was left out: its type is Date.",)
    assert description.rows == 1000
    assert calls == sorted(calls)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", "compressed"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<u2", "<i8", "?"])
def test_arrays(tmp_path, values, order, suffix, dtype):
    x = np.nan_to_num(values, nan=3, posinf=4) if np.dtype(dtype).kind != "f" else values
    x = np.asarray(np.abs(x) if np.dtype(dtype).kind == "u" else x, dtype=dtype, order=order)
    path = tmp_path / ("x.npy" if suffix == ".npy" else "x.npz")
    if suffix == ".npy":
        np.save(path, x)
    else:
        (np.savez if suffix == ".npz" else np.savez_compressed)(path, y=np.arange(3), x=x)
    calls = []
    description = describe(path, progress=lambda *done: calls.append(done))
    assert [feature.name for feature in description.features] == ["x0", "x1", "x2"]
    check(description.features, x)
    assert description.rows == 1000
    assert calls[-1] == (x.nbytes, x.nbytes)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(700,), (40, 9, 8), (40, 3, 30, 20), (40, 9, 8, 3), (7, 2, 3, 4, 5), (2, 2, 5000)])
def test_arrays_of_every_shape(tmp_path, shape, order):
    x = np.random.default_rng(0).normal(100, 1, shape)
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    features = describe(tmp_path / "x.npy").features
    if len(shape) in (1, 3):
        columns = x.reshape(-1, 1)
    else:
        axis = 3 if shape[-1] == 3 and len(shape) == 4 else 1
        columns = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    check(features, columns)
    assert features[0].name == ("x0" if len(shape) == 1 else "channel 0")


def test_an_array_that_was_cut_short(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1000, 2)))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"the file ends after 15995 of 16000 bytes of data; it was cut short"):
        describe(tmp_path / "x.npy")


def test_image_folder_of_any_sizes(tmp_path):
    rng = np.random.default_rng(0)
    pixels = []
    for i in range(6):
        image = rng.integers(0, 256, (5 + i, 4, 3), dtype=np.uint8)
        (tmp_path / f"class{i % 2}").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"class{i % 2}" / f"{i}.png")
        pixels.append(image.reshape(-1, 3))
    description = describe(tmp_path)
    check(description.features, np.concatenate(pixels) / 255)
    assert description.rows == 6
    assert [feature.name for feature in description.features] == ["channel 0", "channel 1", "channel 2"]


@pytest.mark.parametrize("name", ["wine", "digits"])
def test_built_in(name):
    raw = BUILT_IN[name]()
    description = describe(name)
    columns = raw.x.double().movedim(1, -1).reshape(-1, raw.x.shape[1]).numpy()
    check(description.features, columns)
    assert tuple(feature.name for feature in description.features) == load(name).features


def test_unknown_sources(tmp_path):
    with pytest.raises(DataError, match="did you mean 'wine'"):
        describe("wien")
    with pytest.raises(DataError, match="no such file"):
        describe(tmp_path / "x.csv")


def test_to_dict_is_json_with_the_project_s_writer(tmp_path):
    (tmp_path / "t.csv").write_text("x,t\n1,a\n2,b\n")
    records.write_json(tmp_path / "out.json", describe(tmp_path / "t.csv").to_dict())
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["features"][0]["mean"] == 1.5
    assert written["features"][1]["mean"] == "nan"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    """A file four times as large, 120 MB of numbers more, costs less than half a copy of them.

    Parsers' threads and allocators are not exact: mostly it is -2 to 11 MB, and 25 was seen. The smaller file, 40 MB of
    numbers, fills the blocks that are parsed at once already.
    """
    peaks = []
    for n in (100_000, 400_000):
        x = np.random.default_rng(0).normal(size=(n, 50))
        path = tmp_path / f"{n}{suffix}"
        if suffix == ".npy":
            np.save(path, x)
        else:
            pl.DataFrame(x).write_csv(path, float_precision=6)
        code = (
            "import re, sys; from levelhead.data import describe; describe(sys.argv[1]);"
            "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
        )
        command = [sys.executable, "-c", code, str(path)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024)
    assert peaks[1] - peaks[0] < 60, peaks


def test_a_table_is_printed_without_torch(tmp_path):
    (tmp_path / "t.csv").write_text("x,t\n1,a\n2,b\n")
    code = (
        "import sys; from levelhead.cli import main; sys.argv[0] = 'levelhead'\ntry: main()\nexcept SystemExit: pass\n"
    )
    code += "assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "stats", str(tmp_path / "t.csv")]
    assert "1.5" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("cuts", [[0, 500, 1000], [0, 1, 2, 700, 700, 1000]])
def test_pieces_merge_as_moments_do(cuts):
    """One formula, spelled for numbers, for arrays and for tensors."""
    x = 1e9 + np.random.default_rng(0).normal(size=(1000, 2)) * [1e-2, 1e6]
    pieces = [x[start:end] for start, end in itertools.pairwise(cuts)]
    moments = reduce(Moments.merge, [Moments.of(torch.from_numpy(piece), 0) for piece in pieces if len(piece)])
    arrayed = reduce(Summary.merge, map(arrays.summary_of, filter(len, pieces)), Summary())
    for i, feature in enumerate(arrays.each_of(arrayed)):
        wide = x[:, i].astype(np.longdouble)
        column = reduce(Summary.merge, [Summary.of_column(pl.Series(piece[:, i])) for piece in pieces], Summary())
        for found in (feature, column):
            assert (found.count, found.low, found.high) == (1000, x[:, i].min(), x[:, i].max())
            assert found.origin + found.mean == pytest.approx(float(moments.mean[i]), rel=1e-15)
            # Moments carry the whole mean, rounded at 1e9 to 1e-7, from piece to piece; these carry it from an origin.
            assert found.m2 == pytest.approx(float(moments.m2[i]), rel=1e-6)
            assert found.m2 == pytest.approx(float(np.square(wide - wide.mean()).sum()), rel=1e-13)
