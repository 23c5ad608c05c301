"""Vector-quantized autoencoder of the digit images: four latent places, a codebook of 32."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class Quantizer(nn.Module):
    def __init__(self, codes=32, dim=8, beta=0.25):
        super().__init__()
        self.codebook = nn.Embedding(codes, dim)
        self.codebook.weight.data.uniform_(-1 / codes, 1 / codes)
        self.beta = beta

    def forward(self, z):
        flat = z.reshape(-1, z.shape[-1])
        distance = torch.cdist(flat, self.codebook.weight)
        q = self.codebook(distance.argmin(1)).view_as(z)
        codebook_loss = F.mse_loss(q.detach(), z)
        commitment = F.mse_loss(z, q.detach())
        straight = z + (q - z).detach()
        return straight, codebook_loss + self.beta * commitment


class VQVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 4 * 8))
        self.quantizer = Quantizer()
        self.decoder = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x):
        z = self.encoder(x).view(-1, 4, 8)
        q, vq_loss = self.quantizer(z)
        return self.decoder(q.flatten(1)), vq_loss


torch.manual_seed(0)
x = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
perm = torch.randperm(len(x))
xtr, xte = x[perm[:1400]], x[perm[1400:]]
model = VQVAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(50):
    model.train()
    for idx in torch.randperm(len(xtr)).split(50):
        out, vq_loss = model(xtr[idx])
        recon = F.mse_loss(out, xtr[idx])
        loss = recon + vq_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        model.eval()
        with torch.no_grad():
            out, vq = model(xte)
        print(f"epoch {epoch + 1} loss {loss.item():.4f} vq {vq.item():.4f} test reconstruction {F.mse_loss(out, xte).item():.4f}")
