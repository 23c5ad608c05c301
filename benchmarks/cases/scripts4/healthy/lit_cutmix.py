"""Lightning module with cutmix, a moving average of the weights for validation, and a one-cycle rate per step."""

import copy
import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def cutmix(x, y):
    lam = float(torch.distributions.Beta(1.0, 1.0).sample())
    size = int(8 * (1 - lam) ** 0.5)
    top, left = (int(v) for v in torch.randint(0, 9 - size, (2,)))
    other = torch.randperm(len(x))
    x = x.clone()
    x[:, :, top : top + size, left : left + size] = x[other, :, top : top + size, left : left + size]
    return x, y, y[other], 1 - size * size / 64


class CutmixNet(L.LightningModule):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.net = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.GroupNorm(4, 48), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(768, 10),
        )  # fmt: skip
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    def training_step(self, batch, _):
        x, a, b, lam = cutmix(*batch)
        logits = self.net(x)
        loss = lam * F.cross_entropy(logits, a) + (1 - lam) * F.cross_entropy(logits, b)
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def on_train_batch_end(self, *_):
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(fast, 0.05)

    def validation_step(self, batch, _):
        x, y = batch
        logits = self.average(x)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_acc", (logits.argmax(1) == y).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.net.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


L.seed_everything(0, verbose=False)
d = load_digits()
x, y = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(d.target)
perm = torch.randperm(len(x))
train = DataLoader(TensorDataset(x[perm[:1400]], y[perm[:1400]]), batch_size=50, shuffle=True)
val = DataLoader(TensorDataset(x[perm[1400:]], y[perm[1400:]]), batch_size=400)
trainer = L.Trainer(
    max_epochs=12, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(CutmixNet(12 * len(train)), train, val)
m = trainer.callback_metrics
print(f"train loss {m['train_loss']:.4f} val loss {m['val_loss']:.4f} val acc {m['val_acc']:.4f}")
