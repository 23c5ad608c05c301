"""Transformer encoder classifying which of two token types is in the majority; warm-up + inverse sqrt schedule."""
import torch
import torch.nn as nn

torch.manual_seed(0)
torch.set_num_threads(1)

cfg = dict(vocab=12, length=21, dim=32, heads=4, layers=2, batch=64, steps=300, peak_lr=2e-3, warmup=100)


def sample(n):
    """Label 1 when more tokens are < 6 than >= 6."""
    p = torch.rand(n, 1)
    low = torch.rand(n, cfg["length"]) < p
    tok = torch.where(low, torch.randint(0, 6, (n, cfg["length"])), torch.randint(6, 12, (n, cfg["length"])))
    return tok, (low.sum(1) > cfg["length"] // 2).long()


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.emb = nn.Embedding(c["vocab"], c["dim"])
        self.pos = nn.Parameter(0.02 * torch.randn(1, c["length"], c["dim"]))
        layer = nn.TransformerEncoderLayer(c["dim"], c["heads"], 64, dropout=0.1, batch_first=True)
        self.enc = nn.TransformerEncoder(layer, c["layers"])
        self.cls = nn.Linear(c["dim"], 2)

    def forward(self, tok):
        h = self.enc(self.emb(tok) + self.pos)
        return self.cls(h.mean(1))


def lr_factor(step):
    step += 1
    w = cfg["warmup"]
    return min(step / w, (w / step) ** 0.5)


model = Encoder(cfg)
opt = torch.optim.AdamW(model.parameters(), lr=cfg["peak_lr"], weight_decay=0.01)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lr_factor)
val_x, val_y = sample(1000)
print("majority class rate %.3f" % max(val_y.float().mean().item(), 1 - val_y.float().mean().item()))
avg = None
for step in range(1, cfg["steps"] + 1):
    model.train()
    x, y = sample(cfg["batch"])
    loss = nn.functional.cross_entropy(model(x), y)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()
    avg = loss.item() if avg is None else 0.95 * avg + 0.05 * loss.item()
    if step % 50 == 0:
        model.eval()
        with torch.no_grad():
            acc = (model(val_x).argmax(1) == val_y).float().mean().item()
        print(f"step {step:4d} lr {sched.get_last_lr()[0]:.2e} loss {avg:.4f} val acc {acc:.3f}")
