"""Air quality from seven sensor values, with an own evaluation that forgets `model.eval()`.

Thirty stations differ in their general level of pollution. The validation rows are ordered by station and
read in batches of twenty, one station each, as the author wants to look at them one by one. His evaluation
only turns gradients off: batch normalisation takes mean and variance from the one station's rows, which
removes just the level that is to be predicted. Training itself is in order (its rows are shuffled). The
repair is one line, `model.eval()`, ahead of the scoring.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"train-mode-in-eval"}
WHERE = "loop"

STATIONS, TRAIN, VAL = 30, 50, 20


def readings(seed):
    g = torch.Generator().manual_seed(seed)
    rows = TRAIN + VAL
    level = torch.randn(STATIONS, 1, 1, generator=g).expand(STATIONS, rows, 1)
    sensors = level * torch.tensor([0.8, 0.8, -0.8, 0.6, 0.0, 0.0, 0.0])
    sensors = sensors + 0.6 * torch.randn(STATIONS, rows, 7, generator=g)
    y = torch.sin(sensors[..., 0]) + sensors[..., 1] - 0.7 * sensors[..., 2] + 0.5 * sensors[..., 4]
    y = (y + 0.2 * torch.randn(STATIONS, rows, generator=g)).unsqueeze(2)
    y = (y - y.mean()) / y.std()
    x_train, y_train, x_val, y_val = sensors[:, :TRAIN], y[:, :TRAIN], sensors[:, TRAIN:], y[:, TRAIN:]
    train = TensorDataset(x_train.reshape(-1, 7), y_train.reshape(-1, 1))
    return train, TensorDataset(x_val.reshape(-1, 7), y_val.reshape(-1, 1))  # station after station


def network():
    return nn.Sequential(
        nn.Linear(7, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Linear(32, 1),
    )  # fmt: skip


def evaluate_without_gradients(case):
    with torch.no_grad():
        return case.score(case.model, case.val)


def evaluate_in_eval_mode(case):
    case.model.eval()
    with torch.no_grad():
        return case.score(case.model, case.val)


def build(seed, evaluate):
    torch.manual_seed(seed)
    model = network()
    train, val = readings(seed)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        train=DataLoader(train, batch_size=50, shuffle=True),
        val=DataLoader(val, batch_size=VAL),
        epochs=15,
        score=r2,
        evaluate=evaluate,
    )


def faulty(seed):
    return build(seed, evaluate_without_gradients)


def fixed(seed):
    return build(seed, evaluate_in_eval_mode)
