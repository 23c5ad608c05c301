"""A small GPT that learns to write plates: two free digits, then each is the sum of the two before it, modulo 7."""

import math

import torch
import torch.nn as nn
from torch.nn import functional as F

block_size, batch_size, n_embd, n_head, n_layer = 9, 64, 48, 4, 2
max_iters, learning_rate, vocab_size = 500, 3e-3, 8
torch.manual_seed(1337)


def plates(n):
    digits = [torch.randint(7, (n,)), torch.randint(7, (n,))]
    for _ in range(7):
        digits.append((digits[-1] + digits[-2]) % 7)
    return torch.stack([torch.full((n,), 7), *digits], 1)


train_data, val_data = plates(8000), plates(1000)


def get_batch(split):
    data = train_data if split == "train" else val_data
    rows = data[torch.randint(len(data), (batch_size,))]
    return rows[:, :-1], rows[:, 1:]


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(n_embd, dim=2)
        q, k, v = (t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in (q, k, v))
        att = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        att = F.softmax(att, dim=-1)
        return self.c_proj((att @ v).transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = SelfAttention()
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.h = nn.Sequential(*[Block() for _ in range(n_layer)])
        self.ln_f, self.lm_head = nn.LayerNorm(n_embd), nn.Linear(n_embd, vocab_size, bias=False)

    def forward(self, idx, targets=None):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1)))
        logits = self.lm_head(self.ln_f(self.h(x)))
        loss = None if targets is None else F.cross_entropy(logits.view(-1, vocab_size), targets.reshape(-1))
        return logits, loss


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
for it in range(max_iters):
    x, y = get_batch("train")
    _, loss = model(x, y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if it % 100 == 99:
        with torch.no_grad():
            print(f"iter {it + 1}: train loss {loss.item():.4f}, val loss {model(*get_batch('val'))[1].item():.4f}")

idx = val_data[:, :3]
with torch.no_grad():
    for _ in range(7):
        idx = torch.cat([idx, model(idx)[0][:, -1].argmax(-1, keepdim=True)], 1)
print(f"completions right, digit by digit: {(idx[:, 3:] == val_data[:, 3:]).float().mean():.4f}")
