"""Two groups of parameters; the rate of the trunk is ten thousand times lower."""

import torch
from case import classifier
from torch import nn

CAUSES = {"parameters-not-trained", "learning-rate-too-low"}
WHERE = "optimizer"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 4)
        self.rnn = nn.GRU(4, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0][:, -1])


def rows(n, g):
    x = torch.randint(0, 30, (n, 6), generator=g)
    return x, (x[:, :3].sum(1) > x[:, 3:].sum(1)).long()


def build(seed, rate):
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(3)
    train, val = rows(1500, g), rows(500, g)
    model = Net()
    groups = [
        {"params": [*model.embed.parameters(), *model.rnn.parameters()], "lr": rate},
        {"params": model.head.parameters()},
    ]
    return classifier(model, train, val, optimizer=torch.optim.Adam(groups, lr=0.01), epochs=12)


def faulty(seed):
    return build(seed, 1e-6)


def fixed(seed):
    return build(seed, 0.01)
