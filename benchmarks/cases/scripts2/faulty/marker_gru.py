"""Predict the group of the token that follows the marker token; GRU encoder + MLP head."""
import torch
import torch.nn as nn
import torch.nn.functional as F

VOCAB, LENGTH = 20, 24


def generate(n, seed):
    """Label: group (1 of 5) of the token right after token 0."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(1, VOCAB, (n, LENGTH), generator=g)
    pos = torch.randint(0, LENGTH - 1, (n,), generator=g)
    x[torch.arange(n), pos] = 0
    nxt = x[torch.arange(n), pos + 1]
    return x, (nxt - 1) % 5


class Encoder(nn.Module):
    def __init__(self, emb=16, hidden=64):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, emb)
        self.rnn = nn.GRU(emb, hidden, batch_first=True)

    def forward(self, x):
        states, _ = self.rnn(self.emb(x))
        return states.max(dim=1).values


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
        self.last_code = None

    def forward(self, x):
        code = self.encoder(x).detach()
        self.last_code = code      # kept for plotting
        return self.head(code)


def evaluate(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = generate(4000, 0)
    xv, yv = generate(500, 1)
    model = Model()
    opt = torch.optim.Adam(model.parameters(), lr=4e-3)
    for epoch in range(12):
        model.train()
        tot = 0.0
        for idx in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(model(x[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            tot += loss.item() * len(idx)
        print(f"epoch {epoch}: loss {tot / len(x):.4f}, val acc {evaluate(model, xv, yv):.3f}")


if __name__ == "__main__":
    main()
