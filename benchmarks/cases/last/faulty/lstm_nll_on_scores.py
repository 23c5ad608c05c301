"""An LSTM whose raw scores go into the negative log-likelihood.

The network says which of five symbols occurs most often among twelve. `NLLLoss` wants log
probabilities, but the last layer is followed by nothing: raising all scores lowers the loss without
end, which says little about which symbol is right. The repair ends the network in a log-softmax.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"output-mismatch", "loss-mismatch"}
WHERE = "output"


class Counter(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 5)
        self.output = output

    def forward(self, ids):
        states, _ = self.lstm(self.embedding(ids))
        return self.output(self.head(states[:, -1]))


def sequences(rows):
    x = torch.randint(0, 5, (rows, 12))
    y = torch.randint(0, 5, (rows,))
    x = torch.where(torch.rand(rows, 12) < 0.3, y.unsqueeze(1), x)
    counts = nn.functional.one_hot(x, 5).sum(dim=1).float()
    return TensorDataset(x, counts.argmax(dim=1))


def build(seed, output):
    torch.manual_seed(seed)
    model = Counter(output)
    return Case(
        model=model,
        loss=nn.NLLLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(sequences(2000), batch_size=50, shuffle=True),
        val=DataLoader(sequences(500), batch_size=500),
        epochs=12,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, nn.Identity())


def fixed(seed):
    return build(seed, nn.LogSoftmax(dim=1))
