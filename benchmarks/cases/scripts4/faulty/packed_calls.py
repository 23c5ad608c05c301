"""Bird calls of varying length through a packed GRU; batches are sorted by length for packing."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset


class Calls(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.rows = []
        for _ in range(n):
            kind = int(torch.randint(5, (1,), generator=g))
            length = int(torch.randint(8, 26, (1,), generator=g))
            t = torch.arange(length).float()
            pitch = [0.2, 0.35, 0.5, 0.2, 0.35][kind] + (0.012 * t if kind >= 3 else 0)
            tone = torch.stack([torch.sin(6.28 * pitch * t), torch.cos(6.28 * pitch * t)], 1)
            self.rows.append((tone + 0.35 * torch.randn(length, 2, generator=g), kind))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(rows):
    calls = sorted((call for call, _ in rows), key=len, reverse=True)
    kinds = torch.tensor([kind for _, kind in rows])
    lengths = torch.tensor([len(c) for c in calls])
    return pad_sequence(calls, batch_first=True), lengths, kinds


def collate_test(rows):
    return pad_sequence([c for c, _ in rows], batch_first=True), torch.tensor([len(c) for c, _ in rows]), torch.tensor([k for _, k in rows])


class CallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(2, 40, batch_first=True)
        self.fc = nn.Linear(40, 5)

    def forward(self, calls, lengths, ordered=True):
        packed = pack_padded_sequence(calls, lengths, batch_first=True, enforce_sorted=ordered)
        return self.fc(self.gru(packed)[1][0])


torch.manual_seed(30)
train = DataLoader(Calls(2000, 1), batch_size=40, shuffle=True, collate_fn=collate)
test = DataLoader(Calls(500, 2), batch_size=100, collate_fn=collate_test)
model = CallNet()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
for epoch in range(10):
    model.train()
    total = 0.0
    for calls, lengths, kinds in train:
        loss = nn.functional.cross_entropy(model(calls, lengths), kinds)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        hits = torch.cat([model(c, n, ordered=False).argmax(1) == k for c, n, k in test])
    print(f"epoch {epoch + 1} loss {total / len(train):.4f} test acc {hits.float().mean():.4f}")
