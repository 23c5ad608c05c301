"""Models with dropout before a sum and a norm, as people write them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

WIDTH = 12


class PostNorm(nn.Module):
    """In one expression: the sum in either order, and ``torch.add``; a dropout that is used three times."""

    def __init__(self, p=0.3):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(WIDTH), nn.RMSNorm(WIDTH), nn.LayerNorm(WIDTH, bias=False)
        self.dropout = nn.Dropout(p)

    def forward(self, x):
        x = self.norm1(x + self.dropout(self.a(x)))
        x = self.norm2(self.dropout(F.gelu(self.b(x))) + x)
        return self.norm3(torch.add(self.dropout(self.c(x)), x))


class PreNorm(nn.Module):
    """The sum is kept; its norm stands in the next statement, or nowhere."""

    def __init__(self, p=0.3):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.a = nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 20), nn.GELU(), nn.Dropout(p), nn.Linear(20, WIDTH), nn.Dropout(p))
        self.dropout1 = nn.Dropout(p)

    def forward(self, x):
        x = x + self.dropout1(self.a(self.norm1(x)))
        x = x + self.feed(self.norm2(x))
        return x * 2


class Statements(nn.Module):
    """As in BERT: one step a statement, and the sum in a statement of its own."""

    def __init__(self, p=0.3):
        super().__init__()
        self.dense, self.again = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropout, self.LayerNorm, self.final = nn.Dropout(p), nn.LayerNorm(WIDTH, eps=1e-12), nn.LayerNorm(WIDTH)

    def forward(self, hidden, given):
        hidden = self.dense(hidden)
        hidden = self.dropout(hidden)
        hidden = self.LayerNorm(hidden + given)
        other = self.again(hidden)
        hidden = hidden + self.dropout(other)
        hidden = self.final(hidden)
        return hidden  # noqa: RET504 - as people write it


class Own(nn.Module):
    """As ``nn.TransformerEncoderLayer``: the dropout is the end of another method."""

    def __init__(self, p=0.3):
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.inner, self.outer = nn.Dropout(p), nn.Dropout(p)

    def _block(self, x, *, scale=1.0):
        x = self.b(self.inner(F.relu(self.a(x)))) * scale
        return self.outer(x)

    def forward(self, x):
        x = self.norm1(x + self._block(x, scale=0.5))
        return self.norm2(x + self._block(x))


class Recomputed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.layer, self.reentrant = PostNorm(), reentrant

    def forward(self, x):
        return checkpoint(self.layer, x, use_reentrant=self.reentrant)


def encoder(**kwargs):
    return nn.TransformerEncoderLayer(WIDTH, 2, 20, 0.3, batch_first=True, **kwargs)


#: name -> (model, how many inputs, what explain says of it, in the order of the kinds below)
MODELS = {
    "post-norm": (PostNorm, 1, (3, 0)),
    "pre-norm": (PreNorm, 1, (1, 1)),
    "statements": (Statements, 2, (2, 0)),
    "own methods": (Own, 1, (2, 0)),
    "encoder layer": (encoder, 1, (2, 0)),
    "encoder layer, norm first": (lambda: encoder(norm_first=True), 1, (1, 1)),
    "decoder layer": (lambda: nn.TransformerDecoderLayer(WIDTH, 2, 20, 0.3, batch_first=True), 2, (3, 0)),
    "recomputed": (lambda: Recomputed(True), 1, (6, 0)),
    "recomputed, not reentrant": (lambda: Recomputed(False), 1, (6, 0)),
}
