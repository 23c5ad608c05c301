"""Associative recall: given (key, value) pairs and a query key, return the value stored under it."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
torch.set_num_threads(1)
N_KEYS, N_VALUES, PAIRS = 16, 8, 8


def get_batch(n):
    keys = torch.rand(n, N_KEYS).argsort(1)[:, :PAIRS]
    values = torch.randint(0, N_VALUES, (n, PAIRS))
    pick = torch.randint(0, PAIRS, (n, 1))
    return keys, values, keys.gather(1, pick), values.gather(1, pick).squeeze(1)


class Recall(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.dim = dim
        self.key_emb = nn.Embedding(N_KEYS, dim)
        self.val_emb = nn.Embedding(N_VALUES, dim)
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.out = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, N_VALUES))

    def forward(self, keys, values, query):
        q = self.q(self.key_emb(query))                 # B, 1, D
        k = self.k(self.key_emb(keys))                  # B, P, D
        v = self.v(self.val_emb(values))                # B, P, D
        scores = q @ k.transpose(1, 2) / self.dim ** 0.5  # B, 1, P
        att = F.softmax(scores, dim=1)
        return self.out((att @ v).squeeze(1))


model = Recall()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
test_batch = get_batch(2000)
running = []
for step in range(1, 1501):
    keys, values, query, answer = get_batch(128)
    logits = model(keys, values, query)
    loss = F.cross_entropy(logits, answer)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    running.append(loss.item())
    if step % 150 == 0:
        model.eval()
        with torch.no_grad():
            acc = (model(*test_batch[:3]).argmax(1) == test_batch[3]).float().mean().item()
        model.train()
        print(f"step {step} loss {sum(running) / len(running):.4f} test acc {acc:.3f}")
        running = []
