"""Two-headed network on the wine data: predict cultivar and the colour intensity. Dict batches."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
torch.set_num_threads(1)
COLOUR = 9


class WineDataset(Dataset):
    def __init__(self, feats, cls, colour):
        self.feats, self.cls, self.colour = feats, cls, colour

    def __len__(self):
        return len(self.cls)

    def __getitem__(self, i):
        return {
            "features": torch.tensor(self.feats[i], dtype=torch.float32),
            "label": int(self.cls[i]),
            "colour": torch.tensor(self.colour[i], dtype=torch.float32),
        }


class TwoHeads(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(d, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.cls_head = nn.Linear(32, 3)
        self.reg_head = nn.Linear(32, 1)

    def forward(self, batch):
        h = self.trunk(batch["features"])
        return {"logits": self.cls_head(h), "colour": self.reg_head(h).squeeze(1)}


def compute_loss(out, batch, reg_weight=0.5):
    ce = F.cross_entropy(out["logits"], batch["label"])
    mse = F.mse_loss(out["colour"], batch["colour"])
    return ce + reg_weight * mse, {"ce": ce.item(), "mse": mse.item()}


def make_data():
    X, y = load_wine(return_X_y=True)
    tr, va = train_test_split(range(len(X)), test_size=0.3, random_state=0, stratify=y)
    mu, sd = X[tr].mean(0), X[tr].std(0)
    Z = (X - mu) / sd
    colour = Z[:, COLOUR].copy()
    feats = Z[:, [c for c in range(13) if c != COLOUR]]
    return WineDataset(feats[tr], y[tr], colour[tr]), WineDataset(feats[va], y[va], colour[va])


def evaluate(model, loader):
    model.eval()
    hits, se, n, ys = 0, 0.0, 0, []
    with torch.no_grad():
        for batch in loader:
            out = model(batch)
            hits += (out["logits"].argmax(1) == batch["label"]).sum().item()
            se += F.mse_loss(out["colour"], batch["colour"], reduction="sum").item()
            ys.append(batch["colour"])
            n += len(batch["label"])
    return hits / n, 1 - se / n / torch.cat(ys).var(unbiased=False).item()


train_ds, val_ds = make_data()
train_loader = DataLoader(train_ds, batch_size=16, shuffle=True)
val_loader = DataLoader(val_ds, batch_size=64)
model = TwoHeads(12)
optim = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-3)
for epoch in range(60):
    model.train()
    for batch in train_loader:
        optim.zero_grad()
        loss, parts = compute_loss(model(batch), batch)
        loss.backward()
        optim.step()
    if epoch % 10 == 9:
        acc, r2 = evaluate(model, val_loader)
        print(f"epoch {epoch}: loss {loss.item():.4f} {parts} val acc {acc:.3f} colour R2 {r2:.3f}")
