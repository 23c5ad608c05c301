"""Character GRU on a small generated corpus, evaluated by next-character accuracy."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
random.seed(0)
torch.set_num_threads(1)

subjects = ["anna", "the boy", "our teacher", "a fox"]
verbs = ["reads", "sells", "hides", "paints"]
objects = ["the old map", "a red apple", "two letters", "the violin"]
text = " ".join(f"{random.choice(subjects)} {random.choice(verbs)} {random.choice(objects)}." for _ in range(2000))
alphabet = sorted(set(text))
ids = torch.tensor([alphabet.index(c) for c in text])
split = int(len(ids) * 0.9)
train_ids, val_ids = ids[:split], ids[split:]
BLOCK, BATCH = 24, 32


def get_batch(source):
    start = torch.randint(0, len(source) - BLOCK - 1, (BATCH,))
    x = torch.stack([source[s:s + BLOCK] for s in start])
    y = torch.stack([source[s:s + BLOCK] for s in start])
    return x, y


class CharRNN(nn.Module):
    def __init__(self, vocab, emb=16, hidden=64):
        super().__init__()
        self.emb = nn.Embedding(vocab, emb)
        self.gru = nn.GRU(emb, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, x):
        h, _ = self.gru(self.emb(x))
        return self.out(h)


@torch.no_grad()
def next_char_accuracy(model, n=2000):
    pred = model(val_ids[:n].unsqueeze(0)).argmax(-1)[0]
    return (pred[:-1] == val_ids[1:n]).float().mean().item()


model = CharRNN(len(alphabet))
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
most_common = torch.bincount(val_ids).max().item() / len(val_ids)
print(f"vocab {len(alphabet)}, most common character {most_common:.3f}")
for step in range(1, 401):
    x, y = get_batch(train_ids)
    logits = model(x)
    loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(f"step {step} loss {loss.item():.4f} next-char acc {next_char_accuracy(model):.3f}")
