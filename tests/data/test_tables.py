"""Tables as people have them: the right numbers by hand, the same in ``describe`` and in ``load``."""

import csv
import math

import numpy as np
import polars as pl
import pytest
import torch

from levelhead.data import DataError, Reading, cells, describe, load, tables


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def columns(path, **options):
    """By name: the count, mean and missing values of a column of numbers; the count and missing of texts."""
    found = describe(path, reading=Reading.of(options)).features
    return {f.name: (f.count, f.mean, f.missing) if f.kind == "number" else (f.count, f.missing) for f in found}


@pytest.mark.parametrize(
    ("cells", "separator", "options", "expected", "said"),
    [
        (["1,5", "2,5", "-3"], ";", {}, [1.5, 2.5, -3], "decimal comma: '1,5' is 1.5"),
        (["1.000,5", "2,25"], ";", {}, [1000.5, 2.25], "decimal comma, '.' between thousands: '1.000,5' is 1000.5"),
        (["1,234", "12,345.5"], ",", {}, [1234, 12345.5], "',' between thousands: '1,234' is 1234"),
        (["1 234,5", "12\u00a0000", "7"], "|", {}, [1234.5, 12000, 7], "' ' between thousands"),
        (["1'234.5", "12’000"], "\t", {}, [1234.5, 12000], "between thousands"),
        (["$5", "$6.50", "-$1"], ",", {}, [5, 6.5, -1], "'$' taken off: '$5' is 5"),
        (["1.200,50 €", "3,5 €"], ";", {}, [1200.5, 3.5], "'€' taken off"),
        (["12%", "13.5 %"], ",", {}, [12, 13.5], "'%' taken off: '12%' is 12"),
        (["(1.5)", "−2", "3"], ",", {}, [-1.5, -2, 3], "'(1.5)' is -1.5"),
        (["1,234", "2,345"], ";", {"decimal": ","}, [1.234, 2.345], "'1,234' is 1.234"),
        (["1,234", "2,345"], ";", {"thousands": ","}, [1234, 2345], "'1,234' is 1234"),
        (["1_000", "2_000_000"], ",", {}, [1000, 2000000], "'_' between thousands"),
        (["EUR 1.50", "EUR 20"], ",", {}, [1.5, 20], "'EUR' taken off: 'EUR 1.50' is 1.5"),
        (["1,5 kg", "20 kg"], ";", {}, [1.5, 20], "decimal comma, 'kg' taken off"),
        (["21.5°C", "-3°C"], ",", {}, [21.5, -3], "'°C' taken off"),
        (["12,34,567.5", "1,23,456"], "|", {}, [1234567.5, 123456], "'12,34,567.5' is 1234567.5"),
        (["1e3", "+2.5E-1", ".5"], ",", {}, [1000, 0.25, 0.5], ""),
    ],
)
def test_numbers_as_people_write_them(tmp_path, cells, separator, options, expected, said):
    """Thirty rows, so that ``load`` can split them; the number and a class."""
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(
            [["v", "y"], *([c, "ab"[i % 2]] for i, c in enumerate(cells * 15))]
        )
    found = describe(tmp_path / "t.csv", reading=Reading.of(options))
    number = found.features[0]
    assert (number.kind, number.count, number.missing) == ("number", len(cells) * 15, 0)
    assert number.mean == pytest.approx(np.mean(expected), rel=1e-15)
    assert number.std == pytest.approx(np.std(expected), rel=1e-14)
    assert said in " ".join(found.notes)
    data = load(tmp_path / "t.csv", "y", standardize=False, reading=Reading.of(options))
    assert data.features == ("v",)
    seen = torch.cat([part.inputs[:, 0] for part in (data.train, data.validation, data.test)])
    assert sorted(seen.tolist()) == sorted(np.float32(expected * 15).tolist())
    assert set(found.notes) <= set(data.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a;b\n1,234;1\n2,345;1\n",
            "column 'a': '1,234' can be 1234 or 1.234; say which with --decimal . or --decimal ,",
        ),
        ("a;b\n1,5;1.234\n2,5;2.345\n", "column 'b': '1.234' can be 1.234 or 1234"),
        ("a;b\n1.234;x\n12.345;y\n", "column 'a': '1.234' can be 1.234 or 1234; say which"),
        ("a\n5%\n6%\n0.07\n", "row 4, column 'a': '0.07' is not a number, as the column's other cells are"),
        (
            "a,b\n1,x\n2,y\n-,z\n3,w\nn.a.,-\n",
            "column 'a': 2 not a number, as the column's other cells are: '-' (row 4), 'n.a.'",
        ),
    ],
)
def test_what_can_mean_two_things_stops_with_one_line(tmp_path, text, message):
    path = write(tmp_path / "t.csv", text)
    for reader in (describe, lambda path: load(path, "a")):
        with pytest.raises(DataError) as caught:
            reader(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_codes_are_no_numbers_with_a_unit(tmp_path):
    path = write(tmp_path / "t.csv", "code,flat,day\n" + "".join(f"A{i},{i}{'ab'[i % 2]},{i}:30\n" for i in range(4)))
    assert columns(path) == {"code": (4, 0), "flat": (4, 0), "day": (4, 0)}


def test_before_the_header(tmp_path):
    assert columns(write(tmp_path / "t.csv", "\n \r\nsep=;\n;a\n1;2\n")) == {"index": (1, 1.0, 0), "a": (1, 2.0, 0)}
    with pytest.raises(DataError, match="row 6, column 'a': 'x'"):
        describe(write(tmp_path / "t.csv", "\n\nsep=;\na;b\n1;2\nx;2\n3;2\n"))


def test_a_column_settles_what_is_open_in_another(tmp_path):
    path = write(tmp_path / "t.csv", "a;b\n1,234;1,5\n2,345;2,5\n")
    assert columns(path) == {"a": (2, pytest.approx(1.7895), 0), "b": (2, 2.0, 0)}


def test_the_options(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c\nn.a.,1,x\n5,-,y\n6,2,\n7,4,z\n")
    assert columns(path, na="n.a.,-") == {"a": (3, 6.0, 1), "b": (3, pytest.approx(7 / 3), 1), "c": (3, 1)}
    assert columns(path, na="n.a.,-", drop_missing=True) == {"a": (1, 7.0, 0), "b": (1, 4.0, 0), "c": (1, 0)}
    assert columns(path, na="n.a.,-", ignore=["b", "c"]) == {"a": (3, 6.0, 1)}
    with pytest.raises(DataError, match=r"no column 'd' to ignore.*a, b, c"):
        describe(path, reading=Reading(ignore=("d",)))
    for options, message in (
        ({"decimal": ";"}, "decimal must be"),
        ({"thousands": "."}, "cannot be the decimal sign"),
        ({"encoding": "utf-9"}, "no encoding 'utf-9'"),
        ({"image_size": "64y48"}, "image_size must be pixels"),
        ({"ignored": "a"}, "reading has no 'ignored' .did you mean 'ignore'"),
        ({"drop_missing": "yes"}, "drop_missing cannot be 'yes'"),
    ):
        with pytest.raises(DataError, match=message):
            Reading.of(options)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8-sig", ()),
        ("utf-16", ()),
        ("latin-1", ("The file is not UTF-8; it was read as Latin-1 (Windows-1252).",)),
    ],
)
def test_encodings(tmp_path, encoding, said):
    path = write(tmp_path / "t.csv", "Größe,Name\n1,José\n2,\n", encoding)
    found = describe(path)
    assert [(f.name, f.count) for f in found.features] == [("Größe", 2), ("Name", 1)]
    assert found.notes == said
    assert columns(write(tmp_path / "u.csv", "Größe\n1\n", "utf-16-le"), encoding="utf-16-le") == {"Größe": (1, 1.0, 0)}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_lines_and_separators(tmp_path, ends, separator):
    text = ends.join(separator.join(row) for row in (["a", "b"], ["1", "x"], ["2", ""], ["4", "z"])) + ends
    assert columns(write(tmp_path / "t.csv", text)) == {"a": (3, pytest.approx(7 / 3), 0), "b": (2, 1)}


@pytest.mark.parametrize("text", ["a,b\r1,2\n3,4\n", "a,b\n1,2\r3,4\r", "a,b\r\n1,2\n3,4\r\n"])
def test_lines_that_end_in_several_ways(tmp_path, text):
    assert columns(write(tmp_path / "t.csv", text)) == {"a": (2, 2.0, 0), "b": (2, 3.0, 0)}


def test_blank_lines_and_stray_quotes(tmp_path):
    path = write(tmp_path / "t.csv", 'size,kind\n\n1,6" pipe\n2,a 5" one\n\n3,plain\n\n')
    assert columns(path) == {"size": (3, 2.0, 0), "kind": (3, 0)}
    (tmp_path / "t.csv").write_text('size,kind\n\n1,6" pipe\n\nx,b\n2,c\n')
    with pytest.raises(DataError, match=r"row 5, column 'size': 'x'"):
        describe(path)


@pytest.mark.parametrize("far", [False, True], ids=["in the first block", "in a late block"])
@pytest.mark.parametrize(("row", "cells"), [("1", 1), ("1,2,3", 3), ('"1,2"', 1)])
def test_a_row_of_another_length_is_one_error_anywhere(tmp_path, monkeypatch, far, row, cells):
    monkeypatch.setattr(tables, "_CHUNK", 64)
    before = 200 if far else 0
    path = write(tmp_path / "t.csv", "a,y\n" + "1,0\n" * before + row + "\n" + "1,1\n" * 30)
    said = rf"row {before + 2}: {cells} cells? where the header has 2; give every row as many"
    with pytest.raises(DataError, match=said):
        describe(path)
    with pytest.raises(DataError, match=said):
        load(path, "y")


@pytest.mark.parametrize("gap", cells.MISSING)
def test_missing_is_missing_in_every_row_and_every_kind_of_file(tmp_path, monkeypatch, gap):
    monkeypatch.setattr(tables, "_CHUNK", 64)
    rows = [[f" {gap} " if i in (0, 90) else str(i), f" {gap} " if i in (1, 95) else "ab"[i % 2]] for i in range(100)]
    frame = pl.DataFrame(rows, schema=["n", "t"], orient="row")
    frame.write_csv(tmp_path / "t.csv")
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ipc(tmp_path / "t.feather")
    mean = pytest.approx((sum(range(100)) - 90) / 98)
    for name in ("t.csv", "t.parquet", "t.feather"):
        assert columns(tmp_path / name) == {"n": (98, mean, 2), "t": (98, 2)}


def test_integers_beyond_two_to_the_53(tmp_path):
    """1e18 + {0, 1000, 2000, 3000}: the deviation is 1118.03; float64 in between gives 1102."""
    large = np.array([10**18 + i for i in (0, 1000, 2000, 3000)])
    truth = float(np.std(large - 10**18))
    assert abs(np.std(large.astype(np.float64)) - truth) > 10, "the plain way must be seen to fail"
    write(tmp_path / "t.csv", "v\n" + "".join(f"{i}\n" for i in large))
    pl.DataFrame({"v": large}).write_parquet(tmp_path / "t.parquet")
    np.save(tmp_path / "t.npy", large)
    np.save(tmp_path / "u.npy", large.astype(np.uint64) + np.uint64(2**63))
    for name in ("t.csv", "t.parquet", "t.npy", "u.npy"):
        (found,) = describe(tmp_path / name).features
        assert found.std == pytest.approx(truth, rel=1e-12)
        assert found.mean == float(10**18 + 1500 + (2**63 if name == "u.npy" else 0))
    odd = [10**18 + 61, 10**18 + 1342, 10**18 + 203]  # a sum that is rounded twice gives the float64 beside theirs
    np.save(tmp_path / "v.npy", np.array(odd))
    write(tmp_path / "v.csv", "v\n" + "".join(f"{i}\n" for i in odd))
    for name in ("v.csv", "v.npy"):
        (found,) = describe(tmp_path / name).features
        assert (found.min, found.max, found.mean) == (float(min(odd)), float(max(odd)), float(sum(odd) / 3))
    y = np.arange(40) % 2
    ids = 10**18 + 1000 * np.arange(40)
    pl.DataFrame({"v": ids, "y": y}).write_parquet(tmp_path / "w.parquet")
    np.savez(tmp_path / "w.npz", x=ids, y=y)
    for name in ("w.parquet", "w.npz"):
        assert len(load(tmp_path / name, "y").train.inputs.unique()) == 24, "every training row is another value"


def test_types_of_parquet_and_feather(tmp_path):
    frame = pl.DataFrame({"y": [0, 1] * 15, "yes": [True, False, None] * 10}).with_columns(
        pl.lit("1.50").cast(pl.Decimal(10, 2)).alias("decimal"),
        pl.Series("word", ["a", "b", None] * 10, dtype=pl.Categorical),
        day=pl.date(2020, 1, 1),
        some=pl.concat_list(pl.lit(1), pl.lit(2)),
    )
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ipc(tmp_path / "t.feather")
    left_out = {"Column 'day' was left out: its type is Date.", "Column 'some' was left out: its type is List(Int32)."}
    for name in ("t.parquet", "t.feather"):
        found = describe(tmp_path / name)
        assert [(f.name, f.kind, f.count) for f in found.features] == [
            ("y", "number", 30),
            ("yes", "number", 20),
            ("decimal", "number", 30),
            ("word", "text", 20),
        ]
        assert (found.features[1].mean, found.features[2].mean) == (0.5, 1.5)
        assert set(found.notes) == left_out
        data = load(tmp_path / name, "y")
        assert data.features == ("yes", "decimal", "word=a", "word=b", "word=(missing)")
        assert left_out <= set(data.notes)


def test_identifiers_are_named(tmp_path):
    rows = "".join(f"{i},n{i},{i if i % 2 else 'many'},{i % 7}.5\n" for i in range(100))
    path = write(tmp_path / "t.csv", "id,name,odd,v\n" + rows)
    data = load(path, "v")
    assert data.features == ("id",)
    assert any("'name' was left out: it looks like an identifier, 100 distinct texts" in note for note in data.notes)
    assert any("'odd' was left out: 51 distinct texts, of which most are numbers" in note for note in data.notes)
    assert any("'id' looks like an identifier" in note and "--ignore-column id" in note for note in data.notes)
    with pytest.raises(DataError, match="target looks like an identifier: 100 distinct texts in 100 rows"):
        load(path, "name")
    assert "looks like an identifier" in load(path, "id").notes[0]


def test_no_escape_of_a_terminal_comes_through(tmp_path):
    path = write(tmp_path / "t.csv", "\x1b[31mred,y\n" + "".join(f"{i},\x1b]0;{'ab'[i % 2]}\n" for i in range(30)))
    data = load(path, "y")
    for text in (*data.features, *data.classes, *data.notes, *(f.name for f in describe(path).features)):
        assert "\x1b" not in text
    assert data.features == ("\\x1b[31mred",)


def test_no_escape_comes_through_from_an_array(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.arange(60.0).reshape(30, 2), y=np.array(["\x1b[31ma", "b"] * 15))
    assert load(tmp_path / "t.npz").classes == ("\\x1b[31ma", "b")
    np.savez(tmp_path / "t.npz", x=np.arange(60.0).reshape(30, 2), y=np.array([b"a", "ö".encode()] * 15))
    assert load(tmp_path / "t.npz").classes == ("a", "ö")


def test_exact_where_the_textbook_is_not(tmp_path):
    """Mean 1e9 and deviation 1e-2, in blocks: two passes in extended precision are the truth."""
    x = 1e9 + np.random.default_rng(0).normal(0, 1e-2, 200_000)
    wide = x.astype(np.longdouble) - 10**9
    truth, mean = float(np.sqrt(((wide - wide.mean()) ** 2).mean())), float(wide.mean() + 10**9)
    naive = math.sqrt(max(float((x * x).mean() - x.mean() ** 2), 0))
    assert abs(naive / truth - 1) > 1e-2, "the plain way must be seen to fail"
    pl.DataFrame({"x": x}).write_parquet(tmp_path / "t.parquet", row_group_size=10_000)
    (found,) = describe(tmp_path / "t.parquet").features
    assert found.std == pytest.approx(truth, rel=1e-14)
    assert found.mean == mean
