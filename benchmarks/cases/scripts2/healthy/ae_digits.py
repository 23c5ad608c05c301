import torch
from torch import nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(0)
torch.set_num_threads(1)

data = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
ds = TensorDataset(data)
train_set, test_set = random_split(ds, [1500, len(ds) - 1500])
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
test_loader = DataLoader(test_set, batch_size=300)

encoder = nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 8))
decoder = nn.Sequential(nn.Linear(8, 48), nn.GELU(), nn.Linear(48, 64), nn.Sigmoid())
params = list(encoder.parameters()) + list(decoder.parameters())
opt = torch.optim.Adam(params, lr=2e-3)
mse = nn.MSELoss()


def test_loss():
    encoder.eval(), decoder.eval()
    s, n = 0.0, 0
    with torch.no_grad():
        for (x,) in test_loader:
            s += mse(decoder(encoder(x)), x).item() * len(x)
            n += len(x)
    encoder.train(), decoder.train()
    return s / n


mean_image = data[train_set.indices].mean(0)
print("mean-image baseline mse %.4f" % ((data[test_set.indices] - mean_image) ** 2).mean().item())

step = 0
for epoch in range(60):
    for (x,) in train_loader:
        noisy = x + 0.05 * torch.randn_like(x)
        rec = decoder(encoder(noisy))
        loss = mse(rec, x)
        opt.zero_grad()
        loss.backward()
        opt.step()
        step += 1
        if step % 200 == 0:
            print(f"step {step} train mse {loss.item():.4f} test mse {test_loss():.4f}")
print("final test mse %.4f" % test_loss())
