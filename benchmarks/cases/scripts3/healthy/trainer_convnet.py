from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    epochs: int = 8
    batch_size: int = 64
    lr: float = 0.05
    width: int = 8
    seed: int = 0


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, stride, 1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
    )


class Net(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.stem = conv_bn(1, w)
        self.body = nn.Sequential(conv_bn(w, 2 * w, 2), conv_bn(2 * w, 2 * w), conv_bn(2 * w, 4 * w, 2))
        self.fc = nn.Linear(4 * w, 10)

    def forward(self, x):
        x = self.body(self.stem(x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        digits = load_digits()
        x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)
        x = (x - x.mean()) / x.std()
        y = torch.tensor(digits.target)
        xa, xb, ya, yb = train_test_split(x, y, test_size=0.25, random_state=1, stratify=y)
        self.train_dl = DataLoader(TensorDataset(xa, ya), cfg.batch_size, shuffle=True, drop_last=True)
        self.val_dl = DataLoader(TensorDataset(xb, yb), 256)
        self.model = Net(cfg.width)
        self.opt = torch.optim.SGD(self.model.parameters(), lr=cfg.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(
            self.opt, max_lr=cfg.lr, total_steps=cfg.epochs * len(self.train_dl)
        )

    def train_epoch(self):
        self.model.train()
        running = 0.0
        for x, y in self.train_dl:
            self.opt.zero_grad(set_to_none=True)
            loss = F.cross_entropy(self.model(x), y, label_smoothing=0.05)
            loss.backward()
            self.opt.step()
            self.sched.step()
            running += loss.item()
        return running / len(self.train_dl)

    @torch.inference_mode()
    def validate(self):
        self.model.eval()
        hits = n = 0
        for x, y in self.val_dl:
            hits += (self.model(x).argmax(1) == y).sum().item()
            n += len(y)
        return hits / n

    def fit(self):
        for epoch in range(1, self.cfg.epochs + 1):
            loss = self.train_epoch()
            print(f"epoch {epoch}: loss={loss:.4f} val_acc={self.validate():.4f}")


if __name__ == "__main__":
    cfg = Config()
    torch.manual_seed(cfg.seed)
    Trainer(cfg).fit()
