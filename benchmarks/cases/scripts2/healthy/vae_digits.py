"""Variational autoencoder on 8x8 digits."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class VAE(nn.Module):
    def __init__(self, d=64, h=128, z=10):
        super().__init__()
        self.enc = nn.Linear(d, h)
        self.mu = nn.Linear(h, z)
        self.logvar = nn.Linear(h, z)
        self.dec1 = nn.Linear(z, h)
        self.dec2 = nn.Linear(h, d)

    def encode(self, x):
        h = F.relu(self.enc(x))
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std)

    def decode(self, z):
        return self.dec2(F.relu(self.dec1(z)))

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def elbo_loss(logits, x, mu, logvar):
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)
    return bce.mean() + kl.mean(), bce.mean().item(), kl.mean().item()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
    x = x[torch.randperm(len(x))]
    train, test = x[:1500], x[1500:]
    p = train.mean(0).clamp(1e-4, 1 - 1e-4)
    base = F.binary_cross_entropy(p.expand_as(test), test, reduction="none").sum(1).mean()
    print(f"constant-pixel baseline nll {base:.2f}")
    model = VAE()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(80):
        model.train()
        tot = 0
        for batch in train[torch.randperm(len(train))].split(50):
            logits, mu, logvar = model(batch)
            loss, bce, kl = elbo_loss(logits, batch, mu, logvar)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 50.0)
            opt.step()
            tot += loss.item() * len(batch)
        if (epoch + 1) % 10 == 0:
            model.eval()
            with torch.no_grad():
                logits, mu, logvar = model(test)
                tl, tb, tk = elbo_loss(logits, test, mu, logvar)
            print(f"epoch {epoch+1}: train -elbo {tot/len(train):.2f} test -elbo {tl.item():.2f} (rec {tb:.2f}, kl {tk:.2f})")


if __name__ == "__main__":
    main()
