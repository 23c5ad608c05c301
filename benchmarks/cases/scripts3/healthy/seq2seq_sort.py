"""Sort a list of digits: GRU encoder, GRU decoder with attention, teacher forcing."""
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PAD, BOS, EOS, OFFSET = 0, 1, 2, 3


class SortPairs(Dataset):
    def __init__(self, n, seed):
        rng = random.Random(seed)
        self.rows = [[rng.randrange(8) for _ in range(rng.randint(3, 7))] for _ in range(n)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        src = [OFFSET + d for d in self.rows[i]]
        out = [OFFSET + d for d in sorted(self.rows[i])]
        return torch.tensor(src), torch.tensor([BOS] + out), torch.tensor(out + [EOS])


def collate(samples):
    return tuple(nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=PAD) for part in zip(*samples))


class Seq2Seq(nn.Module):
    def __init__(self, vocab=11, dim=64):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim, padding_idx=PAD)
        self.encoder = nn.GRU(dim, dim, batch_first=True)
        self.decoder = nn.GRU(dim, dim, batch_first=True)
        self.out = nn.Linear(2 * dim, vocab)

    def forward(self, src, tgt_in):
        memory, state = self.encoder(self.embed(src))
        dec, _ = self.decoder(self.embed(tgt_in), state)
        scores = dec @ memory.transpose(1, 2)
        scores = scores.masked_fill((src == PAD)[:, None, :], float("-inf"))
        context = scores.softmax(-1) @ memory
        return self.out(torch.cat([dec, context], -1))


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for src, tgt_in, tgt_out in loader:
        optimizer.zero_grad()
        logits = model(src, tgt_in)
        loss = criterion(logits.reshape(-1, logits.size(-1)), tgt_out.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def token_accuracy(model, loader):
    model.eval()
    right = n = 0
    for src, tgt_in, tgt_out in loader:
        keep = tgt_out != PAD
        right += (model(src, tgt_in).argmax(-1) == tgt_out)[keep].sum().item()
        n += keep.sum().item()
    return right / n


if __name__ == "__main__":
    torch.manual_seed(0)
    train = DataLoader(SortPairs(3000, 0), batch_size=64, shuffle=True, collate_fn=collate)
    test = DataLoader(SortPairs(400, 1), batch_size=400, collate_fn=collate)
    model = Seq2Seq()
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(1, 9):
        loss = train_one_epoch(model, train, criterion, optimizer)
        print(f"epoch {epoch} loss {loss:.4f} token accuracy {token_accuracy(model, test):.4f}")
