"""Bad data: one line each, that names the file, the row as a person counts it, the column and the repair."""

import csv

import numpy as np
import polars as pl
import pytest
from PIL import Image

from levelhead.data import DataError, describe, load


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def rows(n=30):
    return [["age", "city", "y"], *([str(i), "ab"[i % 2], str(i % 3)] for i in range(n))]


def refused(message, *args, **kwargs):
    """``load`` refuses with one line that holds every piece of the message."""
    with pytest.raises(DataError) as caught:
        load(*args, **kwargs)
    said = str(caught.value)
    assert "\n" not in said
    for piece in message:
        assert piece in said, said
    return said


@pytest.mark.parametrize(
    ("row", "column", "cell", "problem"),
    [
        (17, "age", "4o", "'4o' is not a number, as the column's other cells are"),
        (2, "age", "n.b.", "'n.b.' is not a number"),
        (31, "age", "inf", "the value is infinite"),
        (9, "age", "1e999", "the value is infinite"),
        (17, "y", "", "the target is missing"),
        (17, "y", "NaN", "the target is missing"),
    ],
)
def test_a_bad_cell_is_found_by_row_and_column(tmp_path, row, column, cell, problem):
    cells = rows()
    cells[row - 1][cells[0].index(column)] = cell
    path = table(tmp_path / "t.csv", cells)
    refused([f"{path}, row {row}, column {column!r}: ", problem], path, "y")


def test_a_bad_cell_of_a_parquet_file_is_counted_from_its_first_row(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"x": [1.0, float("inf"), 3.0] * 5, "y": [0, 1, 2] * 5}).write_parquet(path)
    refused([f"{path}, row 2, column 'x': ", "infinite"], path, "y")


def test_the_target(tmp_path):
    path = table(tmp_path / "t.csv", rows())
    refused(["no column 'Y' (did you mean 'y'?)", "the columns are age, city, y"], path, "Y")
    refused(["no column 'weight'; the columns are age, city, y"], path, "weight")
    unnamed = table(tmp_path / "u.csv", [["a", "b"], *([i, i % 2] for i in range(30))])
    refused(["which column is the target?", "--target", "a, b"], unnamed)
    refused(["a regression needs numbers", "'a'", "column 'city'"], path, "city", task="regression")
    only = table(tmp_path / "o.csv", [["y"], *([i % 2] for i in range(30))])
    refused(["no column but the target 'y'"], only, "y")


def test_classes(tmp_path):
    path = table(tmp_path / "one.csv", [["x", "y"], *([i, "a"] for i in range(30))])
    refused([str(path), "one class only ('a')"], path, "y")
    path = table(tmp_path / "rare.csv", [["x", "y"], *([i, "ab"[i > 27]] for i in range(30))])
    refused([str(path), "class 'b' has 2 rows in the data, and 3 are needed"], path, "y")


def test_regressions(tmp_path):
    path = table(tmp_path / "few.csv", [["x", "y"], *([i, i + 0.5] for i in range(5))])
    refused([str(path), "5 rows, too few for 3 parts"], path, "y")
    path = table(tmp_path / "constant.csv", [["x", "y"], *([i, 0.1] for i in range(30))])
    refused([str(path), "the same in every training row"], path, "y", task="regression")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        ("a,y\n", "no rows"),
        ("1,2\n3,4\n", "row 1: the first row holds numbers"),
        ("a,a,y\n1,2,3\n", "row 1, column 'a': the name is there twice"),
        ("a,,y\n1,2,3\n", "row 1: column 2 has no name"),
        ("a,y\n1,2\n1,2,3\n1,2\n", "row 3: 3 cells where the header has 2"),
        ("a\0,y\n1,2\n", "not a text file"),
        ("a,y\n1\n1,2\n", "row 2: 1 cell where the header has 2"),
        ("a,y\r1,2\r1,2,3\r", "row 3: 3 cells where the header has 2"),
        ('a,y\n"1,2\n3,4\n', "row 2: 1 cell where the header has 2"),
        ("a,y\n1,2\n\n3,\n4\n", "row 5: 1 cell where the header has 2"),
    ],
)
@pytest.mark.parametrize("reader", [lambda path: load(path, "y"), describe], ids=["load", "describe"])
def test_a_bad_file(tmp_path, text, message, reader):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.parquet", "t.npz", "t.npy"])
@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_binary_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match="that can be read"):
        describe(path)
    if name != "t.npy":
        refused([str(path), "that can be read"], path, "y")


def test_names(tmp_path):
    refused(["no data set 'minst5k' (did you mean 'mnist5k'?)", "built in are mnist5k, digits"], "minst5k")
    (tmp_path / "cars.csv").write_text("a,y\n1,2\n")
    refused(["there is no such file (did you mean 'cars.csv'?)"], tmp_path / "car.csv")
    refused(["there is no such file"], tmp_path / "no" / "t.csv")
    (tmp_path / "t.xlsx").write_text("x")
    refused(["files of type '.xlsx' are not read; use .csv"], tmp_path / "t.xlsx")
    refused(["its target is fixed"], "wine", "y")
    refused(["it is a classification"], "wine", task="regression")
    refused(["task must be"], "wine", task="ranking")


def images(root):
    for kind in ("ants", "bees"):
        (root / kind).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full((4, 5), i, np.uint8)).save(root / kind / f"{i}.png")
    return root


def test_image_folders(tmp_path):
    refused(["no subfolders"], tmp_path)
    root = images(tmp_path / "a")
    (root / "bees" / "2.png").write_bytes(b"no image")
    refused([str(root / "bees" / "2.png"), "damaged, or not an image"], root)
    good = (root / "bees" / "1.png").read_bytes()
    (root / "bees" / "2.png").write_bytes(good[:-30])
    refused([str(root / "bees" / "2.png"), "cannot be read"], root)
    (root / "wasps").mkdir()
    refused([str(root / "wasps"), "no image in the folder of this class"], root)


def test_arrays(tmp_path):
    path = tmp_path / "a.npz"
    x, y = np.ones((30, 2)), np.arange(30) % 2
    np.savez(path, x=x, labels=y)
    refused(["no array 'y'; the arrays are x, labels"], path)
    np.savez(path, x=x, y=y[:-1])
    refused([str(path), "x has 30 rows, y has the shape (29,)"], path)
    bad = x.copy()
    bad[4, 1] = np.nan
    np.savez(path, x=bad, y=y)
    refused([f"{path}, row 5, column 'x[1]': the value is NaN"], path)
    np.savez(path, x=x, y=np.where(y, np.inf, 0))
    refused([f"{path}, row 2, column 'y': the value is infinite"], path)
    np.savez(path, x=x.astype(complex), y=y)
    refused([str(path), "x must hold numbers, got the type complex128"], path)
    np.savez(path, x=x[:0], y=y[:0])
    refused([str(path), "x is empty"], path)
    np.savez(path, x=np.array([object()] * 30), y=y)
    refused([str(path), "that can be read"], path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def f(): raise OSError('no disk')", "the function raised OSError: no disk"),
        ("def f(): return torch.ones(3)", "two data sets are needed, training and validation; got a Tensor"),
        ("def f(): return 1, 2", "a map-style data set or a pair (inputs, targets) is needed, got a int"),
        (
            "def f(): return (torch.ones(3, 2), torch.ones(2)), (torch.ones(3, 2), torch.ones(3))",
            "3 inputs and 2 targets",
        ),
        (
            "def f(): return (torch.ones(3, 2), torch.ones(3)), (torch.ones(3, 1), torch.ones(3))",
            "different shapes: [2] in training, [1] in validation",
        ),
        ("def g(): pass", "has no function 'f'"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_functions(tmp_path, body, message):
    (tmp_path / "own.py").write_text(f"import torch\n{body}\n")
    refused([f"{tmp_path}/own.py", message], f"{tmp_path}/own.py:f")


def test_modules_that_are_not_there(tmp_path):
    refused(["importing no_such_module failed, ModuleNotFoundError"], "no_such_module:f")
    refused(["there is no such file"], f"{tmp_path}/none.py:f")
