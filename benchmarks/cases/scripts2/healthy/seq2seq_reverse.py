"""Toy seq2seq: reverse the source sequence, GRU encoder/decoder with attention."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
PAD, BOS, EOS = 0, 1, 2
VOCAB = 13


class ReverseDataset(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.items = []
        for _ in range(n):
            k = torch.randint(3, 7, (1,), generator=g).item()
            self.items.append(torch.randint(3, VOCAB, (k,), generator=g))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        s = self.items[i]
        return s, s.flip(0)


def collate(batch):
    srcs, tgts = zip(*batch)
    S = max(len(s) for s in srcs)
    src = torch.full((len(batch), S), PAD)
    dec_in = torch.full((len(batch), S + 1), PAD)
    dec_out = torch.full((len(batch), S + 1), PAD)
    for i, (s, t) in enumerate(zip(srcs, tgts)):
        src[i, :len(s)] = s
        dec_in[i, 0] = BOS
        dec_in[i, 1:len(t) + 1] = t
        dec_out[i, :len(t)] = t
        dec_out[i, len(t)] = EOS
    return src, dec_in, dec_out


class Seq2Seq(nn.Module):
    def __init__(self, emb=32, hid=64):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, emb, padding_idx=PAD)
        self.enc = nn.GRU(emb, hid, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hid, hid)
        self.key = nn.Linear(2 * hid, hid)
        self.dec = nn.GRU(emb, hid, batch_first=True)
        self.out = nn.Linear(3 * hid, VOCAB)

    def encode(self, src):
        mem, h = self.enc(self.emb(src))
        h = torch.tanh(self.bridge(torch.cat([h[0], h[1]], -1))).unsqueeze(0)
        return mem, h

    def decode(self, mem, mask, h, dec_in):
        o, h = self.dec(self.emb(dec_in), h)
        score = o @ self.key(mem).transpose(1, 2) / o.size(-1) ** 0.5
        score = score.masked_fill(mask.unsqueeze(1), float("-inf"))
        ctx = F.softmax(score, dim=-1) @ mem
        return self.out(torch.cat([o, ctx], -1)), h

    def forward(self, src, dec_in):
        mem, h = self.encode(src)
        return self.decode(mem, src == PAD, h, dec_in)[0]

    @torch.no_grad()
    def greedy(self, src, max_len=7):
        mem, h = self.encode(src)
        tok = torch.full((src.size(0), 1), BOS)
        res = []
        for _ in range(max_len):
            logits, h = self.decode(mem, src == PAD, h, tok)
            tok = logits.argmax(-1)
            res.append(tok)
        return torch.cat(res, 1)


def exact_match(model, loader):
    model.eval()
    ok = n = 0
    for src, _, dec_out in loader:
        pred = model.greedy(src)[:, :dec_out.size(1)]
        ok += ((pred == dec_out) | (dec_out == PAD)).all(1).sum().item()
        n += len(src)
    return ok / n


def main():
    torch.manual_seed(0)
    train = DataLoader(ReverseDataset(4000, 0), batch_size=64, shuffle=True, collate_fn=collate)
    val = DataLoader(ReverseDataset(400, 1), batch_size=200, collate_fn=collate)
    model = Seq2Seq()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(6):
        model.train()
        tot = 0.0
        for src, dec_in, dec_out in train:
            logits = model(src, dec_in)
            loss = F.cross_entropy(logits.reshape(-1, VOCAB), dec_out.reshape(-1), ignore_index=PAD)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            tot += loss.item()
        print(f"epoch {epoch} loss {tot / len(train):.4f} exact match {exact_match(model, val):.3f}")


if __name__ == "__main__":
    main()
