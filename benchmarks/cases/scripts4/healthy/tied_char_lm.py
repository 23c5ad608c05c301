"""Character model with tied embeddings over Python's own keyword documentation-like text; cosine to zero at the end."""

import keyword
import random

import torch
from torch import nn
from torch.nn import functional as F

random.seed(1)
torch.manual_seed(1)
names = [f"{random.choice('abcxyz')}{random.randint(0, 9)}" for _ in range(12)]
lines = [f"{random.choice(keyword.kwlist)} {random.choice(names)}: {random.choice(names)} = {random.choice(names)}\n" for _ in range(3000)]
text = "".join(lines)
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])
cut = int(0.9 * len(ids))
BLOCK, BATCH, DIM, STEPS = 48, 32, 64, 350


def get_batch(split):
    lo, hi = (0, cut) if split == "train" else (cut, len(ids))
    ix = torch.randint(lo, hi - BLOCK - 1, (BATCH,))
    return torch.stack([ids[i : i + BLOCK] for i in ix]), torch.stack([ids[i + 1 : i + BLOCK + 1] for i in ix])


class CharLM(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.tok = nn.Embedding(vocab, DIM)
        self.pos = nn.Embedding(BLOCK, DIM)
        layer = nn.TransformerEncoderLayer(DIM, 4, 4 * DIM, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, vocab, bias=False)
        self.head.weight = self.tok.weight
        nn.init.normal_(self.tok.weight, std=0.02)
        nn.init.normal_(self.pos.weight, std=0.02)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(BLOCK))

    def forward(self, x):
        h = self.tok(x) + self.pos.weight[: x.size(1)]
        return self.head(self.norm(self.blocks(h, mask=self.mask, is_causal=True)))


model = CharLM(len(chars))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
scheduler = torch.optim.lr_scheduler.SequentialLR(
    optimizer,
    [
        torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=40),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS - 40),
    ],
    milestones=[40],
)
for step in range(STEPS):
    x, y = get_batch("train")
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 50 == 49:
        model.eval()
        with torch.no_grad():
            x, y = get_batch("val")
            val = F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
        model.train()
        print(f"step {step + 1} train {loss.item():.4f} val loss {val:.4f} lr {scheduler.get_last_lr()[0]:.2e}")
