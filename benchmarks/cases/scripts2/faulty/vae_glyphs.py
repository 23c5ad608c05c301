import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

torch.manual_seed(0)
torch.set_num_threads(1)
LATENT, HIDDEN, EPOCHS = 8, 96, 60

imgs = torch.tensor(load_digits().data, dtype=torch.float32) / 16
imgs = imgs[torch.randperm(len(imgs))]
train_imgs, val_imgs = imgs[:1440], imgs[1440:]
loader = DataLoader(train_imgs, batch_size=48, shuffle=True)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, HIDDEN), nn.ELU(), nn.Linear(HIDDEN, 2 * LATENT))

    def forward(self, x):
        return self.body(x).chunk(2, dim=1)


encoder = Encoder()
decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ELU(), nn.Linear(HIDDEN, 64), nn.Sigmoid())
optim = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)


def loss_function(recon, x, mu, logvar):
    rec = F.binary_cross_entropy(recon, x)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return rec + kld, rec, kld


def evaluate():
    with torch.no_grad():
        mu, _ = encoder(val_imgs)
        err = ((decoder(mu) - val_imgs) ** 2).mean()
        base = ((train_imgs.mean(0) - val_imgs) ** 2).mean()
    return err.item(), base.item()


for epoch in range(1, EPOCHS + 1):
    for x in loader:
        mu, logvar = encoder(x)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        loss, rec, kld = loss_function(decoder(z), x, mu, logvar)
        optim.zero_grad()
        loss.backward()
        optim.step()
    if epoch % 6 == 0:
        err, base = evaluate()
        print(f"epoch {epoch} loss {loss.item():.3f} rec {rec.item():.3f} kld {kld.item():.3f} "
              f"val mse {err:.4f} (mean image {base:.4f})")
