"""Mixed precision, a gradient scaler and accumulation over four small batches."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATE = 4


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


def main():
    torch.manual_seed(0)
    digits = load_digits()
    x = (torch.tensor(digits.images).float().unsqueeze(1) - 4.9) / 6.0
    y = torch.tensor(digits.target)
    order = torch.randperm(len(x))
    train = DataLoader(TensorDataset(x[order[:1408]], y[order[:1408]]), batch_size=16, shuffle=True)
    x_val, y_val = x[order[1408:]], y[order[1408:]]
    model, criterion = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for epoch in range(6):
        model.train()
        optimizer.zero_grad(set_to_none=True)
        for i, (xb, yb) in enumerate(train):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = criterion(model(xb), yb) / ACCUMULATE
            scaler.scale(loss).backward()
            if (i + 1) % ACCUMULATE == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x_val)
            val_loss = criterion(logits.float(), y_val).item()
        print(epoch, round(val_loss, 4), (logits.argmax(1) == y_val).float().mean().item())


if __name__ == "__main__":
    main()
