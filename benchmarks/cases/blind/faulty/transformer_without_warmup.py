"""A post-norm transformer trained at Adam's full rate from the first update on.

The encoder says which of four symbols is the most frequent in a sequence of twelve. It is trained
with a constant rate of 0.02, taken over from the author's earlier small networks, and the loss
stays near that of guessing. The repair is a rate of 0.002, reached over the first 40 updates.
"""

import torch
from case import Case, accuracy, standard_step
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"learning-rate-too-high"}
WHERE = "optimizer"
LENGTH = 12


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 32)
        self.position = nn.Parameter(0.02 * torch.randn(LENGTH, 32))
        layer = nn.TransformerEncoderLayer(32, nhead=2, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)
        for parameter in self.encoder.parameters():  # the layers are copies of each other until here
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x):
        return self.head(self.encoder(self.embedding(x) + self.position).mean(dim=1))


def sequences(rows):
    y = torch.randint(0, 4, (rows,))
    x = torch.randint(0, 4, (rows, LENGTH))
    x = torch.where(torch.rand(rows, LENGTH) < 0.15, y[:, None], x)
    counts = nn.functional.one_hot(x, 4).sum(dim=1)
    return TensorDataset(x, counts.argmax(dim=1))


def build(seed, rate, warmup):
    torch.manual_seed(seed)
    model = Counter()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    case = Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        train=DataLoader(sequences(1000), batch_size=50, shuffle=True),
        val=DataLoader(sequences(400), batch_size=400),
        epochs=6,
        score=accuracy,
    )
    if warmup:
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: min(1.0, (update + 1) / warmup))

        def step(case, batch):
            loss = standard_step(case, batch)
            scheduler.step()
            return loss

        case.step = step
    return case


def faulty(seed):
    return build(seed, rate=0.02, warmup=0)


def fixed(seed):
    return build(seed, rate=0.002, warmup=40)
