"""Word embeddings whose ids mean other words at validation.

Messages of ten words are sorted into four topics by the mean of their words' embeddings. Words are
numbered in the order of their first appearance, and that is done once for the training messages and
anew for the validation messages, so that one id stands for two different words. The repair numbers
the validation words with the training vocabulary.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"train-val-mismatch"}
WHERE = "data"
UNKNOWN = 0


class Topics(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.embedding = nn.Embedding(words, 16)
        self.head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, ids):
        return self.head(self.embedding(ids).mean(dim=1))


def messages(rows):
    """Ten words each: about a third from the topic's 30 words, the others from 60 common ones."""
    texts, topics = [], torch.randint(0, 4, (rows,))
    for topic in topics.tolist():
        own = torch.rand(10) < 0.35
        which = torch.randint(0, 30, (10,)) * (1 + (~own).long())
        texts.append(
            [f"topic{topic}_{i}" if o else f"common{i}" for i, o in zip(which.tolist(), own.tolist(), strict=False)]
        )
    return texts, topics


def number(texts):
    vocabulary = {}
    for text in texts:
        for word in text:
            vocabulary.setdefault(word, len(vocabulary) + 1)
    return vocabulary


def encode(texts, vocabulary):
    return torch.tensor([[vocabulary.get(word, UNKNOWN) for word in text] for text in texts])


def build(seed, shared):
    torch.manual_seed(seed)
    (texts, topics), (val_texts, val_topics) = messages(1500), messages(500)
    vocabulary = number(texts)
    val_vocabulary = vocabulary if shared else number(val_texts)
    model = Topics(200)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adagrad(model.parameters(), lr=0.05),
        train=DataLoader(TensorDataset(encode(texts, vocabulary), topics), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(encode(val_texts, val_vocabulary), val_topics), batch_size=500),
        epochs=10,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, False)


def fixed(seed):
    return build(seed, True)
