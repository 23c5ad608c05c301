"""Token labelling with a bidirectional GRU: noun-like, verb-like, number-like and other words in padded sentences."""

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

TAGS = ["noun", "verb", "number", "other"]


def sentence(gen):
    """Words 1-30; what a word is depends on itself and on the word before."""
    n = int(torch.randint(5, 15, (1,), generator=gen))
    words = torch.randint(1, 31, (n,), generator=gen)
    before = torch.cat([torch.zeros(1, dtype=torch.long), words[:-1]])
    tags = torch.where(words % 5 == 0, 2, torch.where((words + before) % 3 == 0, 1, torch.where(words > 24, 3, 0)))
    return words, tags


def collate(rows):
    words = pad_sequence([w for w, _ in rows], batch_first=True)
    tags = pad_sequence([t for _, t in rows], batch_first=True)
    return words, tags


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(31, 24, padding_idx=0)
        self.gru = nn.GRU(24, 32, batch_first=True, bidirectional=True)
        self.out = nn.Linear(64, len(TAGS))

    def forward(self, words):
        return self.out(self.gru(self.embed(words))[0])


torch.manual_seed(0)
gen = torch.Generator().manual_seed(12)
train = DataLoader([sentence(gen) for _ in range(1500)], batch_size=32, shuffle=True, collate_fn=collate)
test = DataLoader([sentence(gen) for _ in range(400)], batch_size=100, collate_fn=collate)
model = Tagger()
criterion = nn.CrossEntropyLoss(ignore_index=0)
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
for epoch in range(12):
    model.train()
    total = 0.0
    for words, tags in train:
        loss = criterion(model(words).transpose(1, 2), tags)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    right = count = 0
    with torch.no_grad():
        for words, tags in test:
            real = words > 0
            right += (model(words).argmax(-1) == tags)[real].sum().item()
            count += real.sum().item()
    print(f"epoch {epoch + 1} loss {total / len(train):.4f} test tag accuracy {right / count:.4f}")
