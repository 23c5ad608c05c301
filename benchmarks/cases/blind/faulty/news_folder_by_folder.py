"""A bag-of-words classifier fed with one topic's messages after the other's.

Messages of twelve words are read from four folders, one for each topic, and stay in that order: the
training loader has no `shuffle=True`. For a quarter of each epoch the network sees a single class; it
learns to answer this class and forgets the others, and ends with the last folder as its answer to nearly
everything. The repair is `shuffle=True`.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"no-shuffle"}
WHERE = "data"

TOPICS, WORDS, LENGTH = 4, 200, 12


def folder(topic, messages, generator):
    """Messages of one topic: a third of the words come from the topic's own list, the rest are common."""
    common = torch.randint(0, WORDS, (messages, LENGTH), generator=generator)
    own = torch.randint(20 * topic, 20 * topic + 20, (messages, LENGTH), generator=generator)
    typical = torch.rand(messages, LENGTH, generator=generator) < 0.35
    return torch.where(typical, own, common), torch.full((messages,), topic)


def read(messages, generator):
    folders = [folder(topic, messages, generator) for topic in range(TOPICS)]
    return TensorDataset(torch.cat([x for x, _ in folders]), torch.cat([y for _, y in folders]))


class BagOfWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(WORDS, 24, mode="mean")
        self.classifier = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, TOPICS))

    def forward(self, x):
        return self.classifier(self.bag(x))


def build(seed, shuffle):
    torch.manual_seed(seed)
    model = BagOfWords()
    generator = torch.Generator().manual_seed(seed + 10)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        train=DataLoader(read(500, generator), batch_size=32, shuffle=shuffle),
        val=DataLoader(read(100, generator), batch_size=200),
        epochs=12,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, shuffle=False)


def fixed(seed):
    return build(seed, shuffle=True)
