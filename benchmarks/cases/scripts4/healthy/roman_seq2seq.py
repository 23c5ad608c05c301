"""Arabic to Roman numerals with a GRU encoder, attention with a padding mask, and teacher forcing."""

import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

PAD, BOS, EOS = 0, 1, 2
SRC = {c: i + 3 for i, c in enumerate("0123456789")}
TGT = {c: i + 3 for i, c in enumerate("IVXLCDM")}
VALUES = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]


def roman(n):
    out = ""
    for value, sign in VALUES:
        while n >= value:
            out, n = out + sign, n - value
    return out


def tensors(numbers):
    src = [torch.tensor([SRC[c] for c in str(n)]) for n in numbers]
    tgt = [torch.tensor([BOS, *(TGT[c] for c in roman(n)), EOS]) for n in numbers]
    return pad_sequence(src, batch_first=True), pad_sequence(tgt, batch_first=True)


class Translator(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.src, self.tgt = nn.Embedding(13, dim, padding_idx=PAD), nn.Embedding(10, dim, padding_idx=PAD)
        self.encoder = nn.GRU(dim, dim // 2, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(dim, dim, batch_first=True)
        self.attend = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.out = nn.Linear(2 * dim, 10)

    def encode(self, src):
        memory, state = self.encoder(self.src(src))
        return memory, torch.cat([state[0], state[1]], 1)[None], src == PAD

    def decode(self, tgt, memory, state, mask):
        h, state = self.decoder(self.tgt(tgt), state)
        context, _ = self.attend(h, memory, memory, key_padding_mask=mask, need_weights=False)
        return self.out(torch.cat([h, context], -1)), state

    @torch.no_grad()
    def translate(self, src, steps=17):
        memory, state, mask = self.encode(src)
        token, out = torch.full((len(src), 1), BOS), []
        for _ in range(steps):
            logits, state = self.decode(token, memory, state, mask)
            token = logits.argmax(-1)
            out.append(token)
        return torch.cat(out, 1)


torch.manual_seed(0)
random.seed(0)
numbers = random.sample(range(1, 2000), 1999)
train, test = numbers[:1700], numbers[1700:]
model = Translator()
criterion = nn.CrossEntropyLoss(ignore_index=PAD)
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=16)
for epoch in range(16):
    model.train()
    random.shuffle(train)
    total = 0.0
    for i in range(0, len(train), 50):
        src, tgt = tensors(train[i : i + 50])
        logits, _ = model.decode(tgt[:, :-1], *model.encode(src))
        loss = criterion(logits.flatten(0, 1), tgt[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    scheduler.step()
    model.eval()
    src, tgt = tensors(test)
    said = model.translate(src, tgt.shape[1] - 1)
    real = tgt[:, 1:] != PAD
    exact = ((said == tgt[:, 1:]) | ~real).all(1).float().mean()
    if epoch % 3 == 0:
        print(f"epoch {epoch + 1} loss {total / 34:.4f} letters {(said == tgt[:, 1:])[real].float().mean():.4f} whole numerals {exact:.4f}")
