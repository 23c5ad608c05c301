"""Pump failure modes from twenty readings, with Lightning."""

import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class PumpClassifier(L.LightningModule):
    def __init__(self, features, classes, lr=3e-3):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Linear(features, 128), nn.LayerNorm(128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, classes)
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y), on_epoch=True)
        self.log("val_acc", (logits.argmax(1) == y).float().mean(), on_epoch=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


L.seed_everything(21, verbose=False)
x, y = make_classification(
    n_samples=4000, n_features=20, n_informative=12, n_classes=6, n_clusters_per_class=2, class_sep=1.3, random_state=5
)
x = torch.tensor(x, dtype=torch.float32)
x = (x - x[:3000].mean(0)) / x[:3000].std(0)
y = torch.tensor(y)
train = DataLoader(TensorDataset(x[:3000], y[:3000]), batch_size=50, shuffle=True)
val = DataLoader(TensorDataset(x[3000:], y[3000:]), batch_size=500)

trainer = L.Trainer(
    max_epochs=12,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
model = PumpClassifier(20, 6)
trainer.fit(model, train, val)
m = trainer.callback_metrics
print(f"train loss {m['train_loss']:.4f} val loss {m['val_loss']:.4f} val acc {m['val_acc']:.4f}")
