# bf16 autocast + gradient accumulation + cosine schedule
import argparse
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--micro-batch", type=int, default=16)
parser.add_argument("--accum", type=int, default=4)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--device", default="cpu")
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32) / 8 - 1
y = torch.tensor(y)
idx = torch.randperm(len(X), generator=torch.Generator().manual_seed(5))
tr, va = idx[:1440], idx[1440:]
train_loader = DataLoader(TensorDataset(X[tr], y[tr]), batch_size=args.micro_batch, shuffle=True, drop_last=True)

model = nn.Sequential(
    nn.Linear(64, 128), nn.LayerNorm(128), nn.SiLU(),
    nn.Linear(128, 128), nn.LayerNorm(128), nn.SiLU(),
    nn.Linear(128, 10),
).to(args.device)
opt = torch.optim.AdamW(model.parameters(), lr=args.lr)
n_updates = args.epochs * len(train_loader) // args.accum
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=n_updates)
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

opt.zero_grad()
micro_step = 0
for epoch in range(args.epochs):
    model.train()
    running = 0.0
    for xb, yb in train_loader:
        xb, yb = xb.to(args.device), yb.to(args.device)
        with torch.autocast(device_type=args.device, dtype=torch.bfloat16):
            logits = model(xb)
            loss = criterion(logits, yb)
        (loss / args.accum).backward()
        running += loss.item()
        micro_step += 1
        if micro_step % args.accum == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            opt.zero_grad()
            sched.step()
    model.eval()
    with torch.no_grad(), torch.autocast(device_type=args.device, dtype=torch.bfloat16):
        acc = (model(X[va]).argmax(-1) == y[va]).float().mean().item()
    print(f"epoch {epoch:2d} loss {running / len(train_loader):.4f} acc {acc:.4f} lr {sched.get_last_lr()[0]:.2e}")
