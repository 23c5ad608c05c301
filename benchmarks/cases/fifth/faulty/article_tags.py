"""Tags for short articles, several per article.

An article is 20 word numbers; a bag of embeddings and a linear layer give one logit for each of
eight tags. An article has any number of tags, and a tag is given where its logit is above zero.
The score is F1 over all tags.

Wrong: the loss is cross-entropy over the tags. It makes the tags of an article share a probability
of one, says nothing about articles without a tag, and does not care about the level of the
logits, so zero is no boundary between yes and no.

Repair: binary cross-entropy per tag.
"""

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-mismatch"}
WHERE = "loss"
PLACES = {"loss"}

WORDS, TAGS, LENGTH = 200, 8, 20


def articles(rows):
    tags = (torch.rand(rows, TAGS) < 0.25).float()
    x = torch.randint(100, WORDS, (rows, LENGTH))  # words that belong to no tag
    for row in range(rows):
        for tag in tags[row].nonzero().flatten().tolist():
            places = torch.randperm(LENGTH)[:3]
            x[row, places] = tag * 12 + torch.randint(0, 12, (3,))
    return TensorDataset(x, tags)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, 24, mode="sum")
        self.tags = nn.Linear(24, TAGS)

    def forward(self, x):
        return self.tags(self.words(x))


def f1(model, loader):
    hits = given = true = 0.0
    for x, tags in loader:
        guess = model(x) > 0
        hits += float((guess & (tags > 0)).sum())
        given += float(guess.sum())
        true += float(tags.sum())
    return 2 * hits / (given + true)


def build(seed, loss):
    torch.manual_seed(seed)
    model = Tagger()
    nn.init.normal_(model.words.weight, std=0.1)
    return Case(
        model=model,
        loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(articles(1000), batch_size=40, shuffle=True),
        val=DataLoader(articles(300), batch_size=300),
        epochs=15,
        score=f1,
    )


def faulty(seed):
    return build(seed, nn.CrossEntropyLoss())


def fixed(seed):
    return build(seed, nn.BCEWithLogitsLoss())
