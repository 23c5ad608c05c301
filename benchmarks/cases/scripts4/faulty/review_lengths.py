"""Star ratings from reviews of very different lengths: embeddings, mean pooling, a small head."""

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

VOCAB, PAD = 200, 0


class Reviews(Dataset):
    """The rating is the mean strength of a review's words."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        strength = torch.randn(VOCAB, generator=torch.Generator().manual_seed(99))
        self.items = []
        for _ in range(n):
            length = int(torch.randint(3, 80, (1,), generator=g))
            tilt = torch.randn(1, generator=g) * 0.8
            words = torch.multinomial(torch.softmax(tilt * strength[1:], 0), length, replacement=True, generator=g) + 1
            self.items.append((words, strength[words].mean()))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(batch):
    words, scores = zip(*batch, strict=True)
    lengths = torch.tensor([len(w) for w in words])
    return {
        "words": pad_sequence(words, batch_first=True, padding_value=PAD),
        "lengths": lengths,
        "scores": torch.stack(scores),
    }


class Rater(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, dim, padding_idx=PAD)
        self.head = nn.Sequential(nn.Linear(dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, batch):
        vectors = self.embed(batch["words"])
        pooled = vectors.mean(1)
        return self.head(pooled).squeeze(1)


torch.manual_seed(3)
train = DataLoader(Reviews(2500, 1), batch_size=50, shuffle=True, collate_fn=collate)
test = DataLoader(Reviews(800, 2), batch_size=100, collate_fn=collate)
model = Rater()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(20):
    model.train()
    train_sum = 0.0
    for batch in train:
        loss = nn.functional.mse_loss(model(batch), batch["scores"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        train_sum += loss.item()
    model.eval()
    with torch.no_grad():
        errors = torch.cat([(model(b) - b["scores"]) ** 2 for b in test])
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1} train mse {train_sum / len(train):.4f} test mse {errors.mean():.4f}")
