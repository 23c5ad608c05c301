# Diabetes progression regression with target standardisation.
import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)


class TabularDataset(Dataset):
    def __init__(self, x, y):
        self.x = torch.as_tensor(x, dtype=torch.float32)
        self.y = torch.as_tensor(y, dtype=torch.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Regressor(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 1))

    def forward(self, x):
        return self.body(x).squeeze(-1)


class Trainer:
    def __init__(self, model, train_ds, val_ds, lr=5e-3, batch_size=32, epochs=60):
        self.model = model
        self.train_loader = DataLoader(train_ds, batch_size=batch_size, shuffle=True)
        self.val_ds = val_ds
        self.opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
        self.epochs = epochs
        self.loss_fn = nn.SmoothL1Loss()

    def train_epoch(self):
        self.model.train()
        losses = []
        for x, y in self.train_loader:
            self.opt.zero_grad(set_to_none=True)
            loss = self.loss_fn(self.model(x), y)
            loss.backward()
            self.opt.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def validate(self):
        self.model.eval()
        with torch.no_grad():
            pred = self.model(self.val_ds.x)
        return r2_score(self.val_ds.y.numpy(), pred.numpy())

    def fit(self):
        for ep in range(1, self.epochs + 1):
            tr = self.train_epoch()
            if ep % 10 == 0:
                print(f"[{ep:3d}/{self.epochs}] huber={tr:.4f} val_r2={self.validate():.3f}")


def main():
    torch.manual_seed(3)
    X, y = load_diabetes(return_X_y=True, scaled=False)
    Xa, Xb, ya, yb = train_test_split(X, y, test_size=0.2, random_state=3)
    mx, sx = Xa.mean(0), Xa.std(0)
    my, sy = ya.mean(), ya.std()
    train_ds = TabularDataset((Xa - mx) / sx, (ya - my) / sy)
    val_ds = TabularDataset((Xb - mx) / sx, (yb - my) / sy)
    trainer = Trainer(Regressor(X.shape[1]), train_ds, val_ds)
    trainer.fit()
    print("final val r2 %.3f" % trainer.validate())


if __name__ == "__main__":
    main()
