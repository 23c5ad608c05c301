"""Find the centre of a blob in an image; squared pixel errors."""

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Keypoint(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU()
        )
        self.regress = nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, x):
        return self.regress(self.features(x))


def blobs(n, gen):
    axis = torch.linspace(-1, 1, 16)
    centre = torch.rand(n, 2, generator=gen) * 1.6 - 0.8
    dy = (axis - centre[:, :1])[:, :, None]
    dx = (axis - centre[:, 1:])[:, None, :]
    image = torch.exp(-(dx**2 + dy**2) / 0.06)
    return (image + 0.25 * torch.randn(n, 16, 16, generator=gen)).unsqueeze(1), centre


class Trainer:
    def __init__(self, model, loader, test, lr=0.02):
        self.model, self.loader, self.test = model, loader, test
        self.optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.criterion = nn.MSELoss(reduction="sum")

    def epoch(self):
        self.model.train()
        total = 0.0
        for image, centre in self.loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(image), centre)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loader.dataset)

    @torch.no_grad()
    def error(self):
        self.model.eval()
        image, centre = self.test
        return ((self.model(image) - centre) ** 2).sum(1).sqrt().mean().item()


torch.manual_seed(7)
gen = torch.Generator().manual_seed(7)
trainer = Trainer(Keypoint(), DataLoader(TensorDataset(*blobs(2400, gen)), batch_size=120, shuffle=True), blobs(600, gen))
for e in range(20):
    loss = trainer.epoch()
    if e % 4 == 3:
        print(f"epoch {e + 1} loss {loss:.5f} test distance {trainer.error():.4f}")
