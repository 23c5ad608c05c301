"""Customer segments from categories and amounts.

Three categories (of 10 values each) are embedded, four amounts are joined to them, and two hidden
layers with dropout lead to four segments. The author comes from a library where one gives the
share of units to keep.

Wrong: 0.9 was meant as the share to keep; here it is the share to drop. One unit in ten is left
in every layer, and the network can hardly be fitted to its own training rows.

Repair: drop 0.1.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"dropout-too-strong"}
WHERE = "joined"
PLACES = {"joined", "hidden.2", "hidden.5", "hidden"}


def customers(rows):
    generator = torch.Generator().manual_seed(5)  # the same rule for training and validation
    effects = torch.randn(3, 10, 4, generator=generator)
    mixing = torch.randn(4, 4, generator=generator)
    categories, amounts = torch.randint(0, 10, (rows, 3)), torch.randn(rows, 4)
    chance = sum(effects[place, categories[:, place]] for place in range(3))
    chance = chance + torch.tanh(2 * amounts @ mixing) * 1.5
    return TensorDataset(torch.cat([categories.float(), amounts], dim=1), chance.argmax(dim=1))


class Segments(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.categories = nn.ModuleList([nn.Embedding(10, 6) for _ in range(3)])
        self.joined = nn.Dropout(share)
        self.hidden = nn.Sequential(
            nn.Linear(22, 48), nn.ReLU(), nn.Dropout(share), nn.Linear(48, 32), nn.ReLU(), nn.Dropout(share)
        )
        self.segment = nn.Linear(32, 4)

    def forward(self, x):
        embedded = [table(x[:, place].long()) for place, table in enumerate(self.categories)]
        return self.segment(self.hidden(self.joined(torch.cat([*embedded, x[:, 3:]], dim=1))))


def build(seed, share):
    torch.manual_seed(seed)
    model = Segments(share)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.004),
        train=DataLoader(customers(1500), batch_size=50, shuffle=True),
        val=DataLoader(customers(500), batch_size=500),
        epochs=20,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, share=0.9)


def fixed(seed):
    return build(seed, share=0.1)
