"""A classifier of spectra, scored on a bench of samples measured substance by substance.

Spectra of 48 channels hold two peaks whose places depend on the substance (five of them). The
network uses batch normalization. The program has its own evaluation; the bench holds 40 spectra
of each substance in turn, in batches of 20.

Wrong: the evaluation never calls `model.eval()`. Batch normalization uses the statistics of each
bench batch, and as a batch holds a single substance, it removes just what sets it apart.

Repair: `model.eval()` before the bench is scored.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"train-mode-in-eval"}
WHERE = "loop"
PLACES = {"loop"}

PEAKS = torch.tensor([[8.0, 30.0], [12.0, 26.0], [10.0, 38.0], [18.0, 34.0], [15.0, 42.0]])


def spectra(substance):
    channel = torch.arange(48.0)
    places = PEAKS[substance] + torch.randn(len(substance), 2)
    heights = 0.6 + 0.6 * torch.rand(len(substance), 2, 1)
    peaks = heights * torch.exp(-(((channel - places.unsqueeze(2)) / 2.5) ** 2))
    return TensorDataset(peaks.sum(dim=1) + 0.1 * torch.randn(len(substance), 48), substance)


class SpectrumNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(48, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.classes = nn.Linear(32, 5)

    def forward(self, x):
        return self.classes(self.second(self.first(x)))


def bench_plain(case):
    with torch.no_grad():
        return case.score(case.model, case.val)


def bench_eval(case):
    case.model.eval()
    with torch.no_grad():
        return case.score(case.model, case.val)


def build(seed, evaluate):
    torch.manual_seed(seed)
    model = SpectrumNet()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(spectra(torch.randint(0, 5, (900,))), batch_size=45, shuffle=True),
        val=DataLoader(spectra(torch.arange(5).repeat_interleave(40)), batch_size=20),
        epochs=10,
        score=accuracy,
        evaluate=evaluate,
    )


def faulty(seed):
    return build(seed, bench_plain)


def fixed(seed):
    return build(seed, bench_eval)
