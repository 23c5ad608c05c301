"""Data as strangers have them, taken through ``levelhead stats``, ``train`` and ``study`` as they would."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from levelhead import cli

RNG = np.random.default_rng(0)


def messy_table(folder):
    """A spreadsheet of a German office: Latin-1, semicolons, decimal commas, euros, per cent, n.a., a constant year."""
    rows = ["Nr;Größe;Preis;Anteil;Farbe;Jahr;Art"]
    for i in range(120):
        value = RNG.normal(2 * (i % 2), 1)
        size = f"{1000 + 100 * value:,.2f}".translate(str.maketrans(",.", ".,")) if i != 7 else " n.a. "
        price = f"{12.5 + value:.2f}".replace(".", ",")
        rows.append(
            f"{i + 1};{size};{price} €;{50 + i % 7} %;{['rot', 'grün', ''][i % 3]};2024;{['Ei', 'Äpfel'][i % 2]}"
        )
    (folder / "messy.csv").write_bytes(("\r\n".join(rows) + "\r\n").encode("cp1252"))
    return ["messy.csv", "--na", "n.a."], ["--target", "Art", "--ignore-column", "Nr"], 7


def photos(folder):
    """Photos of all sizes, in colour and grey, JPEG and PNG; one is damaged."""
    for i in range(180):
        height, width = RNG.integers(20, 60, 2)
        pixels = RNG.integers(0, 100, (height, width, 3)).astype(np.uint8)
        pixels[..., 0] += np.uint8(150 * (i % 2))
        place = folder / "photos" / ["ants", "bees"][i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels if i % 5 else pixels[..., 0]).save(place / f"{i}.{['png', 'jpg'][i % 3 > 0]}")
    (folder / "photos" / "ants" / "0.png").write_bytes(b"no photo")
    return ["photos", "--skip-damaged"], ["--network", "convnet"], 3


def deep_images(folder):
    """16-bit images of a microscope, split by folders; the classes differ in their upper bits alone."""
    for i in range(180):
        place = folder / "deep" / ["train", "train", "train", "val", "test"][i // 2 % 5] / ["low", "high"][i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((RNG.integers(0, 20_000, (16, 16)) + 20_000 * (i % 2)).astype(np.uint16)).save(
            place / f"{i}.png"
        )
    return ["deep", "--image-size", "8"], ["--network", "convnet"], 1


@pytest.mark.slow
@pytest.mark.parametrize("make", [messy_table, photos, deep_images])
def test_a_stranger_gets_statistics_a_run_and_an_answer(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    source, more, features = make(tmp_path)

    def levelhead(*arguments):
        result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
        assert result.exit_code == 0, result.output
        return result

    found = json.loads(levelhead("stats", *source, "--json").stdout)
    assert len(found["features"]) == features
    network = [f'network = "{more[1]}"'] if "--network" in more else []
    (tmp_path / "small.toml").write_text("\n".join(["steps = 30", "depth = 1", "learning_rate = 0.1", *network]))
    target = more if "--target" in more else []
    levelhead("train", "small.toml", "--data", *source, *target, "--out", "run")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["status"] == "finished"
    assert max(run["curves"]["validation_score"]["values"]) > 0.8
    settings = ["--arm", "plain", "--arm", "BN-x5", "--seeds", "1", "--steps", "10", "--depth", "1", "--workers", "1"]
    (tmp_path / "one.toml").write_text('learning_rates = [0.1]\ninitializations = ["default"]\ndepths = []\n')
    said = levelhead("study", "one.toml", "--data", *source, *more, *settings, "--out", "study")
    assert "Report: study/report.html" in said.stdout
    assert (tmp_path / "study" / "report.html").stat().st_size > 10_000
    assert source[2:] == [] or "[reading]" in (tmp_path / "study" / "study.toml").read_text()
