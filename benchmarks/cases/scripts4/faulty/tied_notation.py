"""A GRU language model over chess-like move pairs; input and output embeddings share one matrix."""

import torch
from torch import nn

torch.manual_seed(42)
FILES, RANKS = 8, 8
VOCAB = FILES * RANKS


def games(n, length):
    """Knight walks on a board, written as squares."""
    hops = torch.tensor([(1, 2), (2, 1), (-1, 2), (-2, 1), (1, -2), (2, -1), (-1, -2), (-2, -1)])
    pos = torch.randint(8, (n, 2))
    out = [pos]
    for _ in range(length - 1):
        scores = torch.rand(n, 8)
        nxt = pos[:, None] + hops
        scores[((nxt < 0) | (nxt > 7)).any(-1)] = -1
        pos = nxt[torch.arange(n), scores.argmax(1)]
        out.append(pos)
    squares = torch.stack(out, 1)
    return squares[..., 0] * RANKS + squares[..., 1]


class TiedGRU(nn.Module):
    def __init__(self, dim=160):
        super().__init__()
        self.encoder = nn.Embedding(VOCAB, dim)
        self.rnn = nn.GRU(dim, dim, batch_first=True)
        self.decoder = nn.Linear(dim, VOCAB)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        h, _ = self.rnn(self.encoder(x))
        return self.decoder(h)


train, val = games(3000, 20), games(300, 20)
model = TiedGRU()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(5):
    model.train()
    total, count = 0.0, 0
    for rows in train[torch.randperm(len(train))].split(50):
        optimizer.zero_grad()
        loss = criterion(model(rows[:, :-1]).reshape(-1, VOCAB), rows[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total, count = total + loss.item(), count + 1
    model.eval()
    with torch.no_grad():
        val_loss = criterion(model(val[:, :-1]).reshape(-1, VOCAB), val[:, 1:].reshape(-1)).item()
    print(f"epoch {epoch + 1} train {total / count:.4f} val loss {val_loss:.4f}")
