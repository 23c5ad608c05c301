"""Ratings from factors of readers and books.

A rating is the product of four factors of the reader and four of the book, plus an offset for
each. All factors start at the same number, 0.3. Every factor then gets the same gradient as its three
neighbours, and the model keeps a single factor for ever. The repair starts from small random numbers.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"constant-init"}
WHERE = "readers"
PLACES = {"readers", "books"}
READERS, BOOKS, FACTORS = 60, 40, 4


def ratings():
    taste, kind = torch.randn(READERS, 3), torch.randn(BOOKS, 3)
    table = taste @ kind.T / 3**0.5 + 0.3 * torch.randn(READERS, 1) + 0.2 * torch.randn(READERS, BOOKS)
    pairs = torch.cartesian_prod(torch.arange(READERS), torch.arange(BOOKS))
    pairs = pairs[torch.randperm(len(pairs))]
    values = table[pairs[:, 0], pairs[:, 1]]
    return TensorDataset(pairs[:1600], values[:1600]), TensorDataset(pairs[1600:], values[1600:])


class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.readers, self.books = nn.Embedding(READERS, FACTORS), nn.Embedding(BOOKS, FACTORS)
        self.reader_offset, self.book_offset = nn.Embedding(READERS, 1), nn.Embedding(BOOKS, 1)
        nn.init.zeros_(self.reader_offset.weight)
        nn.init.zeros_(self.book_offset.weight)

    def forward(self, pairs):
        reader, book = pairs.unbind(dim=1)
        product = (self.readers(reader) * self.books(book)).sum(dim=1)
        return product + (self.reader_offset(reader) + self.book_offset(book)).squeeze(1)


def build(seed, start):
    torch.manual_seed(seed)
    model = Factors()
    start(model.readers.weight)
    start(model.books.weight)
    train, val = ratings()
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        train=DataLoader(train, batch_size=50, shuffle=True),
        val=DataLoader(val, batch_size=400),
        epochs=25,
        score=r2,
    )


def faulty(seed):
    return build(seed, lambda weight: nn.init.constant_(weight, 0.3))


def fixed(seed):
    return build(seed, lambda weight: nn.init.normal_(weight, std=0.3))
