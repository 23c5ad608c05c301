"""The remedies are the library's own, and do what they say."""

import pickle

import faulty_programs as programs
import pytest
import torch
from torch import nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence.weights import oversized
from levelhead.moments import Moments


@pytest.mark.parametrize(
    "values",
    [torch.linspace(0, 100, 1024), torch.cat([torch.zeros(256), torch.full((100,), 50.0)])],
    ids=["sorted", "two parts"],
)
def test_population_statistics_are_those_of_all_rows(values):
    norm = nn.BatchNorm1d(1)
    remedies.recalibrate(norm, values[:, None])
    assert float(norm.running_mean) == pytest.approx(float(values.double().mean()), rel=1e-6)
    assert float(norm.running_var) == pytest.approx(float(values.double().var()), rel=1e-5)


def test_inputs_are_standardized_in_front_of_the_model():
    x = torch.randn(500, 8) * torch.arange(1.0, 9.0) + 100
    for moments, dim in ((Moments.of(x, 0), 0), (Moments.of(x), None)):
        program = programs.program(nn.Identity(), optimizer=lambda _: torch.optim.SGD([torch.zeros(1)], lr=0.1))
        remedies.standardize_inputs(moments)(program)
        std = x.std(correction=0) if dim is None else x.std(0, correction=0)
        mean = x.mean() if dim is None else x.mean(0)
        torch.testing.assert_close(program.model(x), (x - mean) / std, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(400,), (400, 1), (400, 3)])
def test_targets_are_standardized_for_the_loss_and_answers_are_not(shape):
    y = 7 + 3 * torch.randn(shape)
    moments = Moments.of(y if len(shape) > 1 else y[:, None], 0)
    program = programs.program(nn.Identity(), optimizer=lambda _: torch.optim.SGD([torch.zeros(1)], lr=0.1))
    program.loss = nn.MSELoss()
    remedies.standardize_targets(moments)(program)
    std, mean = moments.std().float(), moments.mean.float()
    outputs = torch.zeros(shape)
    answer = program.model(outputs)
    assert answer.shape == y.shape
    torch.testing.assert_close(answer, (outputs * std + mean).reshape(shape))
    expected = (((answer - mean) / std - (y - mean) / std) ** 2).mean() if len(shape) > 1 else None
    if expected is not None:
        torch.testing.assert_close(program.loss(answer, y), expected)


def test_calibrated_weights_give_every_layer_unit_variance():
    model = programs.mlp(64, 64)
    x = torch.randn(256, 8)
    remedies.calibrate(["0", "2", "4"], x)(programs.program(model))
    for end in (1, 3):
        assert float(model[:end](x).detach().var(correction=0)) == pytest.approx(1, abs=0.1)
        assert not bool(model[end - 1].bias.any())
    assert float(model[4].weight.detach().square().sum()) == pytest.approx(4, rel=1e-4)  # orthonormal rows


def test_an_evaluation_without_dropout_has_one_score():
    program = programs.dropout_at_evaluation()
    remedies.without_dropout()(program)
    plain = programs.dropout_at_evaluation()
    assert len({program.final_score() for _ in range(4)}) == 1 < len({plain.final_score() for _ in range(4)})


FOR_SCRIPTS = [
    remedies.learning_rate(0.1, [1.0]),
    remedies.set_in_optimizer("weight_decay", 0.0, "without"),
    remedies.together([remedies.inputs_standardized(), remedies.targets_standardized()]),
    remedies.dropout(["0"], 0.0),
    remedies.relu_between(["0"], ""),
    remedies.validation_like_training(0, 1, 0, 1),
    *(remedies.let_through(), remedies.all_parameters(), remedies.aligned_loss(), remedies.squashed_once()),
    *(remedies.cleared(), remedies.train_mode(), remedies.standard_evaluation(), remedies.batch_statistics()),
    *(remedies.clipped(), remedies.turned_round(), remedies.drawn_anew(), remedies.penalty_lightened()),
    *(remedies.one_batch(), remedies.permuted(), remedies.without_schedule()),
]


@pytest.mark.parametrize("remedy", FOR_SCRIPTS, ids=lambda remedy: remedy.words)
def test_what_is_done_to_a_script_can_be_sent_to_another_process(remedy):
    assert callable(pickle.loads(pickle.dumps(remedy.outside)))


def test_a_rate_is_another_one_for_the_time_of_a_step_alone(monkeypatch):
    before, after = [], []
    monkeypatch.setattr("levelhead.doctor.remedies.outside.register_optimizer_step_pre_hook", before.append)
    monkeypatch.setattr("levelhead.doctor.remedies.outside.register_optimizer_step_post_hook", after.append)
    remedies.learning_rate(0.1, [1.0]).outside(None)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    before[0](optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.1
    after[0](optimizer)
    assert optimizer.param_groups[0]["lr"] == 1.0


@pytest.mark.parametrize("draw", [torch.normal, lambda mean, std: torch.distributions.Normal(mean, std).sample()])
def test_gradients_pass_through_samples(draw):
    """d/dm of the mean of (m + s e)² is 2 m, and d/ds is 2 s: in expectation, over many samples."""
    torch.manual_seed(0)
    mean, std = torch.full((20000,), 1.5, requires_grad=True), torch.full((20000,), 0.5, requires_grad=True)
    with torch.enable_grad(), remedies.Attached():
        draw(mean, std).square().mean().backward()
    assert mean.grad.sum() == pytest.approx(3.0, rel=0.02)
    assert std.grad.sum() == pytest.approx(1.0, rel=0.05)
    plain = draw(mean, std)
    assert not plain.requires_grad or not torch.autograd.grad(plain.sum(), mean)[0].any()


def test_matrices_of_a_programs_own_that_are_too_large():
    """The bound is three times sqrt(2 / inputs), and 5 of an embedding; the smaller side counts as the inputs."""

    class Cell(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.inner = nn.Parameter(scale * torch.randn(32, 48))
            self.table = nn.Embedding(50, 8)

    torch.manual_seed(0)
    assert oversized(Cell(0.7)) == {}
    ((path, (_, far)),) = oversized(Cell(1.5)).items()
    assert path == "inner"
    assert far == pytest.approx(1.5 * 32**0.5 / (3 * 2**0.5), rel=0.05)
