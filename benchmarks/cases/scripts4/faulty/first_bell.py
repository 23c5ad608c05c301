"""An LSTM cell stepped by hand: the answer is which bell rang first, many beats ago."""

import torch
from torch import nn


class Listener(nn.Module):
    def __init__(self, bells, hidden):
        super().__init__()
        self.hidden = hidden
        self.embed = nn.Embedding(bells + 4, hidden)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.answer = nn.Linear(hidden, bells)

    def forward(self, x):
        h = torch.zeros(len(x), self.hidden)
        c = torch.zeros(len(x), self.hidden)
        for t in range(x.shape[1]):
            h, c = self.cell(self.embed(x[:, t]), (h.detach(), c.detach()))
        return self.answer(h)


def ring(n, beats, bells):
    first = torch.randint(bells, (n,))
    noise = torch.randint(bells, bells + 4, (n, beats))
    noise[:, 0] = first
    return noise, first


def evaluate(model, beats, bells):
    model.eval()
    with torch.no_grad():
        x, y = ring(1000, beats, bells)
        logits = model(x)
    return nn.functional.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(0)
    beats, bells = 10, 6
    model = Listener(bells, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(500):
        model.train()
        x, y = ring(64, beats, bells)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1} loss {loss.item():.4f}", "test loss %.4f test acc %.4f" % evaluate(model, beats, bells))
