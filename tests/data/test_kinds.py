"""Every kind of file that ``docs/data.md`` names is written, read by ``describe`` and ``load``, and found in its table.

After a change: ``python tests/data/test_kinds.py`` writes the table anew.
"""

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from levelhead.data import describe, load

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
BEGIN, END = "<!-- kinds: written by tests/data/test_kinds.py -->\n", "<!-- end of kinds -->\n"
ROWS = 30
X = np.random.default_rng(0).normal(10, 2, (ROWS, 2))
Y = np.arange(ROWS) % 2
FRAME = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})
GREY = np.random.default_rng(0).integers(0, 256, (ROWS, 4, 5), dtype=np.uint8)


def text(suffix, separator, encoding="utf-8", decimal=".", ends="\n"):
    def write(folder):
        lines = FRAME.write_csv(separator=separator, line_terminator=ends).replace(".", decimal)
        (folder / f"t.{suffix}").write_bytes(lines.encode(encoding))
        return folder / f"t.{suffix}"

    return write


def scanned(suffix, write):
    def make(folder):
        write(FRAME, folder / f"t.{suffix}")
        return folder / f"t.{suffix}"

    return make


def arrays(**values):
    def make(folder):
        np.savez(folder / "t.npz", **values)
        return folder / "t.npz"

    return make


def npy(folder):
    np.save(folder / "t.npy", X)
    return folder / "t.npy"


def images(suffix, pixels, parts=("",)):
    def make(folder):
        for i, one in enumerate(pixels):
            place = folder / parts[i % len(parts)] / ("ants" if i // len(parts) % 2 else "bees")
            place.mkdir(parents=True, exist_ok=True)
            one.save(place / f"{i}.{suffix}")
        return folder

    return make


G = [Image.fromarray(g) for g in GREY]
DEEP = [Image.fromarray(g.astype(np.uint16) * 257) for g in GREY]
PIXELS = GREY.reshape(-1, 1) / 255
#: What the table says: the writer, the values that must come out, whether ``load`` takes it.
KINDS = {
    "CSV: `,` `;` tab or `\\|`": (text("csv", "|"), X, True),
    "CSV with decimal commas, thousands, currencies or per cent": (text("csv", ";", decimal=","), X, True),
    "CSV in UTF-16, or in Latin-1": (text("csv", "\t", "utf-16"), X, True),
    "CSV with lines that end in CR, LF or both": (text("csv", ",", ends="\r"), X, True),
    "`.tsv`, `.txt`": (text("tsv", "\t"), X, True),
    "Parquet: `.parquet`, `.pq`": (scanned("parquet", pl.DataFrame.write_parquet), X, True),
    "Feather (Arrow IPC): `.feather`, `.arrow`, `.ipc`": (scanned("feather", pl.DataFrame.write_ipc), X, True),
    "`.npz` with `x` and `y`, or `X` and `y`": (arrays(X=X, y=Y), X, True),
    "`.npz` with `x_train`, `y_train`, `x_test`, `y_test`, and `x_val`": (
        arrays(x_train=X[:20], y_train=Y[:20], x_test=X[20:], y_test=Y[20:]),
        X,
        True,
    ),
    "`.npy`": (npy, X, False),
    "a folder of images of 8 bits: PNG, JPEG, BMP, GIF, TIFF, WebP, PPM": (images("png", G), PIXELS, True),
    "a folder of grey images of 16 bits": (images("png", DEEP), PIXELS, True),
    "a folder `train/ val/ test/` of such folders": (images("png", G, ("train", "valid", "test")), PIXELS, True),
}


def table():
    """The table of the page, from what ``describe`` and ``load`` do with a file of each kind."""
    lines = ["| source | `describe`, `levelhead stats` | `load`, `train`, `study` |", "|---|---|---|"]
    for kind, (make, values, loads) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            source = make(Path(folder))
            found = describe(source)
            means = [feature.mean for feature in found.features[: values.shape[1]]]
            assert means == pytest.approx(values.mean(0).tolist(), rel=1e-12), kind
            assert [f.std for f in found.features[: values.shape[1]]] == pytest.approx(values.std(0).tolist(), rel=1e-9)
            unit = f"{found.rows} rows" if source.is_file() else f"{found.rows} images"
            cells = [f"{unit}, {len(found.features)} {'columns' if source.is_file() else 'channel'}", "statistics only"]
            if loads:
                data = load(source, "y" if source.suffix not in ("", ".npz") else None)
                assert data.outputs == 2
                sizes = " / ".join(str(len(part)) for part in (data.train, data.validation, data.test))
                cells[1] = f"{sizes} of {tuple(data.input_shape)}"
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_the_page_names_every_kind_and_what_comes_of_it():
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0] == table()


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
