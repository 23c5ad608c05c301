"""A GRU that adds up marked numbers, with gradient clipping in its own update.

Each step of the sequence holds a number and a mark; the target is the sum of the two marked numbers (the
"adding problem", with 12 steps), standardized. The update clips the gradient's norm at 1, as is usual
for recurrent nets, and a scheduler inside it lowers the rate to a tenth along a cosine.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93

STEPS, ROWS, BATCH, EPOCHS = 12, 1500, 50, 12


class Adder(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 24, batch_first=True)
        self.output = nn.Linear(24, 1)

    def forward(self, x):
        _, last = self.rnn(x)
        return self.output(last[-1])


def sums(rows, generator):
    numbers = 2 * torch.rand(rows, STEPS, generator=generator) - 1
    marked = torch.rand(rows, STEPS, generator=generator).topk(2, dim=1).indices
    marks = torch.zeros(rows, STEPS).scatter_(1, marked, 1.0)
    total = (numbers * marks).sum(dim=1, keepdim=True) / 0.8165  # the deviation of a sum of two
    return TensorDataset(torch.stack([numbers, marks], dim=2), total)


def healthy(seed):
    torch.manual_seed(seed)
    model = Adder()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROWS // BATCH * EPOCHS, eta_min=0.001)

    def clipped_step(case, batch):
        inputs, targets = batch
        case.model.train()
        case.optimizer.zero_grad()
        loss = case.loss(case.model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(case.model.parameters(), 1.0)
        case.optimizer.step()
        scheduler.step()
        return loss.detach()

    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=optimizer,
        train=DataLoader(sums(ROWS, generator), batch_size=BATCH, shuffle=True),
        val=DataLoader(sums(400, generator), batch_size=400),
        epochs=EPOCHS,
        score=r2,
        step=clipped_step,
    )
