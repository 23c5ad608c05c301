"""Reversing sequences with a GRU encoder and decoder, teacher forcing, and batches of three."""

import random

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

random.seed(0)
torch.manual_seed(0)
VOCAB, LENGTH, START = 12, 6, 0


class Encoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 24)
        self.rnn = nn.GRU(24, hidden, batch_first=True)

    def forward(self, source):
        return self.rnn(self.embedding(source))[1]


class Decoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 24)
        self.rnn = nn.GRU(24, hidden, batch_first=True)
        self.out = nn.Linear(hidden, VOCAB)

    def forward(self, token, hidden):
        output, hidden = self.rnn(self.embedding(token).unsqueeze(1), hidden)
        return self.out(output.squeeze(1)), hidden


def make(count):
    source = torch.randint(1, VOCAB, (count, LENGTH))
    target = source.flip(1)
    shifted = torch.cat([torch.full((count, 1), START), target[:, :-1]], 1)
    return TensorDataset(source, shifted, target)


def decode(source, shifted, teacher):
    hidden, token, logits = encoder(source), shifted[:, 0], []
    for t in range(LENGTH):
        output, hidden = decoder(token, hidden)
        logits.append(output)
        forced = random.random() < teacher
        token = shifted[:, t + 1] if forced and t + 1 < LENGTH else output.argmax(1)
    return torch.stack(logits, 1)


encoder, decoder = Encoder(96), Decoder(96)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=4e-3)
criterion = nn.CrossEntropyLoss()
train, val = DataLoader(make(2048), 64, shuffle=True), DataLoader(make(256), 128)
for epoch in range(8):
    encoder.train()
    decoder.train()
    for source, shifted, target in train:
        logits = decode(source, shifted, teacher=0.7)
        loss = criterion(logits.reshape(-1, VOCAB), target.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(encoder.parameters(), 1.0)
        clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        losses, right = [], 0
        for source, shifted, target in val:
            logits = decode(source, shifted, teacher=0.0)
            losses.append(criterion(logits.reshape(-1, VOCAB), target.reshape(-1)).item())
            right += (logits.argmax(2) == target).float().sum().item()
    print(f"epoch {epoch}: val loss {sum(losses) / len(losses):.3f}, tokens right {right / (256 * LENGTH):.3f}")
