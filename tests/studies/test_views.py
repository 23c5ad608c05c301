"""Views of data: what they change, and what they leave."""

from dataclasses import replace

import pytest
import torch
from study_fakes import digits

from levelhead.studies.views import Inputs, Outliers, RandomLabels, Rows, Wave


@pytest.fixture(scope="module")
def data():
    return digits()


def test_few_rows_are_drawn_by_the_seed(data):
    one, same, other = Rows(20)(data, 0), Rows(20)(data, 0), Rows(20)(data, 1)
    assert len(one.train) == 20
    assert one.validation is data.validation
    assert torch.equal(one.train.inputs, same.train.inputs)
    assert not torch.equal(one.train.inputs, other.train.inputs)
    pairs = {(x.sum().item(), y.item()) for x, y in zip(data.train.inputs, data.train.targets, strict=True)}
    assert {(x.sum().item(), y.item()) for x, y in zip(one.train.inputs, one.train.targets, strict=True)} <= pairs


def test_random_labels_have_nothing_to_do_with_the_rows(data):
    true, random = Rows(500)(data, 0), RandomLabels(500)(data, 0)
    assert torch.equal(true.train.inputs, random.train.inputs)
    # Chance agrees in a tenth; standard deviation 0.013.
    assert abs(float((true.train.targets == random.train.targets).double().mean()) - 0.1) < 0.06
    assert torch.equal(random.validation.targets, data.validation.targets)


def test_the_score_stays_whatever_classes_the_rows_hold(data):
    rare = replace(data, train=replace(data.train, targets=(torch.arange(len(data.train)) % 10 == 0).long()))
    assert rare.metric == "balanced accuracy"
    for view in (Rows(5), RandomLabels(100), Outliers(5, 0.2, 10)):
        assert view(rare, 3).metric == "balanced accuracy"
    assert Wave(20, 0.4)(RandomLabels(100)(rare, 3), 3).metric == "r2"


def test_outliers_are_a_share_of_the_training_rows_and_nothing_else(data):
    plain, got = Rows(40)(data, 0), Outliers(40, 0.05, 10)(data, 0)
    times = (got.train.inputs.flatten(1).sum(1) / plain.train.inputs.flatten(1).sum(1)).round(decimals=3)
    assert sorted(times.tolist()) == [1.0] * 38 + [10.0] * 2
    assert torch.equal(got.train.targets, plain.train.targets)
    assert got.validation is data.validation
    assert got.test is data.test


@pytest.mark.parametrize("kind", ["raw", "centred", "standardized", "whitened"])
def test_inputs_are_normalized_by_the_training_rows(data, kind):
    got = Inputs(kind)(data, 0)
    x = got.train.inputs.double()
    covariance = x.T.cov()
    assert x.shape[1] == got.validation.inputs.shape[1] == len(got.features) < 64, "pixels that never vary are left out"
    if kind != "raw":
        assert float(x.mean(0).abs().max()) < 1e-5  # float32 inputs
    if kind == "standardized":
        torch.testing.assert_close(x.std(0, correction=0), torch.ones_like(x[0]), rtol=1e-5, atol=0)
    if kind == "whitened":
        eye = torch.eye(x.shape[1], dtype=x.dtype)
        # The whitening matrix's condition (1e4) times float32's rounding.
        torch.testing.assert_close(covariance * (len(x) - 1) / len(x), eye, rtol=0, atol=1e-3)
    if kind in ("raw", "centred"):
        varies = (data.train.inputs.flatten(1) != data.train.inputs.flatten(1)[0]).any(0)
        torch.testing.assert_close(covariance, data.train.inputs.flatten(1)[:, varies].double().T.cov())


def test_the_wave_is_a_sine_with_noise():
    got = Wave(20, 0.5)(digits(), 3)
    residual = got.test.targets - torch.sin(torch.pi * got.test.inputs)
    assert (len(got.train), got.task, got.outputs, got.input_shape) == (20, "regression", 1, (1,))
    assert abs(float(residual.std()) - 0.5) < 0.08  # 400 values: standard error 0.018


def test_a_view_says_what_it_is():
    assert repr(Rows(20)) == "Rows(count=20)"
