import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten()
        )
        self.to_stats = nn.Linear(128, 2 * latent)
        self.from_z = nn.Linear(latent, 128)
        self.dec = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.SiLU(), nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)
        )

    def encode(self, x):
        return self.to_stats(self.enc(x)).chunk(2, dim=1)

    def sample(self, mu, logvar):
        return torch.normal(mu, (0.5 * logvar).exp())

    def decode(self, z):
        return self.dec(F.silu(self.from_z(z)).view(-1, 32, 2, 2))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.sample(mu, logvar)), mu, logvar


def elbo_loss(logits, x, mu, logvar, beta):
    recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum() / len(x)
    return recon + beta * kl, recon, kl


def main():
    torch.manual_seed(0)
    images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
    images = images[torch.randperm(len(images))]
    train, test = images[:1500], images[1500:]
    model = VAE()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    epochs = 30
    for epoch in range(1, epochs + 1):
        model.train()
        beta = min(1.0, epoch / 10)
        for batch in train[torch.randperm(len(train))].split(64):
            logits, mu, logvar = model(batch)
            loss, recon, kl = elbo_loss(logits, batch, mu, logvar, beta)
            opt.zero_grad()
            loss.backward()
            opt.step()
        if epoch % 5 == 0:
            model.eval()
            with torch.no_grad():
                loss, recon, kl = elbo_loss(*(lambda o: (o[0], test, o[1], o[2]))(model(test)), 1.0)
            print(f"epoch {epoch} kl {kl.item():.2f} recon {recon.item():.2f} test -ELBO {loss.item():.3f}")


if __name__ == "__main__":
    main()
