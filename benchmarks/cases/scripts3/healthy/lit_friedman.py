import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class FriedmanData(L.LightningDataModule):
    def __init__(self, n=2400, batch_size=64):
        super().__init__()
        self.n, self.batch_size = n, batch_size

    def setup(self, stage=None):
        X, y = make_friedman1(self.n, n_features=8, noise=0.5, random_state=11)
        X, y = torch.tensor(X).float(), torch.tensor(y).float()
        X = (X - 0.5) / 0.29
        y = (y - y.mean()) / y.std()
        self.train_set, self.val_set = random_split(
            TensorDataset(X, y), [0.8, 0.2], generator=torch.Generator().manual_seed(0)
        )

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 512)


class Regressor(L.LightningModule):
    def __init__(self, lr=3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))
        self.val_se = []

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.huber_loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.val_se.append((self(x) - y).square())
        self.log("val_loss", F.huber_loss(self(x), y))

    def on_validation_epoch_end(self):
        self.mse = torch.cat(self.val_se).mean().item()
        self.val_se.clear()

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr, weight_decay=1e-5)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def main():
    L.seed_everything(5, verbose=False)
    model = Regressor()
    trainer = L.Trainer(
        max_epochs=15,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    trainer.fit(model, datamodule=FriedmanData())
    print("loss", float(trainer.callback_metrics["train_loss"]), "val R2", round(1 - model.mse, 4))


if __name__ == "__main__":
    main()
