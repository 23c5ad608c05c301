"""A stream that is learned one row at a time.

Sequences arrive one by one from a generator that makes each of them only when asked, so the loader neither
shuffles nor knows its length, and every batch is a single row. The network normalises by
layer, not by batch, and uses plain gradient descent. The class says which of two halves holds the higher peak.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

MIN_SCORE = 0.9


class Stream(IterableDataset):
    def __init__(self, rows, seed, replay=False):
        self.rows, self.replay, self.seed = rows, replay, seed
        self.random = torch.Generator().manual_seed(seed)

    def __iter__(self):
        if self.replay:
            self.random.manual_seed(self.seed)
        for _ in range(self.rows):
            x = torch.randn(16, generator=self.random)
            peak = int(torch.randint(0, 16, (1,), generator=self.random))
            x[peak] += 5
            yield x, int(x.argmax() >= 8)


def healthy(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2)
    )
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.03),
        train=DataLoader(Stream(800, seed), batch_size=1),
        val=DataLoader(Stream(400, seed + 1000, replay=True), batch_size=200),
        epochs=3,
        score=accuracy,
    )
