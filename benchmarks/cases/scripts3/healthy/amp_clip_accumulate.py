"""Mixed precision on whatever there is, gradients accumulated over micro-batches and clipped."""
import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--micro-batch", type=int, default=16)
parser.add_argument("--accum", type=int, default=4)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--clip", type=float, default=1.0)


def build():
    return nn.Sequential(
        nn.Linear(64, 128), nn.LayerNorm(128), nn.ReLU(), nn.Linear(128, 128), nn.LayerNorm(128), nn.ReLU(), nn.Linear(128, 10)
    )


def main(args):
    torch.manual_seed(21)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32, device=device) / 16, torch.tensor(y, device=device)
    order = torch.randperm(len(x), device=device)
    train, test = order[:1344], order[1344:]
    model = build().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scaler = torch.amp.GradScaler(device)
    criterion = nn.CrossEntropyLoss()

    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        optimizer.zero_grad()
        for i, idx in enumerate(train[torch.randperm(len(train))].split(args.micro_batch)):
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = criterion(model(x[idx]), y[idx])
            running += loss.item() * len(idx)
            scaler.scale(loss / args.accum).backward()
            if (i + 1) % args.accum == 0:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), args.clip)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            acc = (model(x[test]).argmax(1) == y[test]).float().mean().item()
        print(f"epoch {epoch:2d} loss {running / len(train):.4f} acc {acc:.4f}")


if __name__ == "__main__":
    main(parser.parse_args())
