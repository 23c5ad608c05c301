"""Tags for short questions, any number of them at once.

A question of twelve words may carry any of eight tags, most often one. The mean of the word embeddings
goes through a hidden layer to one sigmoid a tag, and a tag is given above one half. The loss is the
mean absolute error, taken over from a forecast: with tags this rare its best answer
is near the median, zero, and no tag is ever given. The repair is a binary cross-entropy.
"""

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-mismatch"}
WHERE = "loss"
PLACES = {"loss"}
TAGS, COMMON, LENGTH = 8, 20, 12


def questions(rows):
    """Each tag owns four words, and a question has two words of each of its tags."""
    tags = torch.rand(rows, TAGS) < 0.12
    words = torch.randint(0, COMMON + 4 * TAGS, (rows, LENGTH))
    words = torch.where(torch.rand(rows, LENGTH) < 0.8, words % COMMON, words)
    for row, own in enumerate(tags):
        twice = own.nonzero().flatten().repeat_interleave(2)[:LENGTH]
        words[row, : len(twice)] = COMMON + 4 * twice + torch.randint(0, 4, (len(twice),))
    return TensorDataset(words, tags.float())


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.EmbeddingBag(COMMON + 4 * TAGS, 24, mode="mean")
        self.hidden = nn.Linear(24, 48)
        self.out = nn.Linear(48, TAGS)

    def forward(self, x):
        return torch.sigmoid(self.out(torch.relu(self.hidden(self.words(x)))))


def f1(model, loader):
    x, y = map(torch.cat, zip(*loader, strict=False))
    said = model(x) > 0.5
    return float(2 * (said & (y > 0)).sum() / (said.sum() + y.sum()))


def build(seed, loss):
    torch.manual_seed(seed)
    model = Tagger()
    return Case(
        model=model,
        loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(questions(1500), batch_size=50, shuffle=True),
        val=DataLoader(questions(400), batch_size=400),
        epochs=15,
        score=f1,
    )


def faulty(seed):
    return build(seed, nn.L1Loss())


def fixed(seed):
    return build(seed, nn.BCELoss())
