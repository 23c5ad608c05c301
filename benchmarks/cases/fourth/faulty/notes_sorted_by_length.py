"""A text classifier whose training rows were sorted by length.

Short notes about one of four subjects are padded to 16 symbols; an embedding, a convolution over
the symbols and a maximum over time give the subject. A helper sorts the training notes by their
length before they are padded, but leaves the labels in the old order, so almost no note has its own
label. The repair sorts the labels along with the notes.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"labels-corrupted"}
WHERE = "data"
PLACES = {"data"}
WORDS, LONGEST = 60, 16


def notes(rows):
    """Lists of word numbers, 1 to WORDS; about every third word belongs to the subject."""
    labels = torch.randint(0, 4, (rows,))
    texts = []
    for label in labels.tolist():
        length = int(torch.randint(6, LONGEST + 1, (1,)))
        common = torch.randint(1, 21, (length,))
        special = 21 + 10 * label + torch.randint(0, 10, (length,))
        texts.append(torch.where(torch.rand(length) < 0.35, special, common))
    return texts, labels


def padded(texts):
    return nn.utils.rnn.pad_sequence(texts, batch_first=True)


class Subject(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS + 1, 16, padding_idx=0)
        self.conv = nn.Conv1d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        x = self.embedding(x).transpose(1, 2)
        return self.head(torch.relu(self.conv(x)).amax(dim=2))


def build(seed, with_labels):
    torch.manual_seed(seed)
    model = Subject()
    texts, labels = notes(1200)
    val_texts, val_labels = notes(400)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    texts = [texts[i] for i in order]
    if with_labels:
        labels = labels[order]
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(TensorDataset(padded(texts), labels), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(padded(val_texts), val_labels), batch_size=400),
        epochs=12,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, with_labels=False)


def fixed(seed):
    return build(seed, with_labels=True)
