import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
torch.set_num_threads(1)


def make_blobs(n, size=32):
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    imgs, masks = [], []
    for _ in range(n):
        m = torch.zeros(size, size, dtype=torch.bool)
        for _ in range(torch.randint(1, 4, (1,)).item()):
            cy, cx = torch.randint(5, size - 5, (2,)).tolist()
            r = torch.randint(3, 6, (1,)).item()
            m |= (yy - cy) ** 2 + (xx - cx) ** 2 < r * r
        img = m.float() * 0.8 + 0.6 * torch.randn(size, size)
        imgs.append(img)
        masks.append(m.float())
    return torch.stack(imgs).unsqueeze(1), torch.stack(masks).unsqueeze(1)


def double_conv(i, o):
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
        nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, base=8):
        super().__init__()
        self.d1 = double_conv(1, base)
        self.d2 = double_conv(base, base * 2)
        self.mid = double_conv(base * 2, base * 4)
        self.up2 = nn.ConvTranspose2d(base * 4, base * 2, 2, stride=2)
        self.u2 = double_conv(base * 4, base * 2)
        self.up1 = nn.ConvTranspose2d(base * 2, base, 2, stride=2)
        self.u1 = double_conv(base * 2, base)
        self.out = nn.Conv2d(base, 1, 1)

    def forward(self, x):
        c1 = self.d1(x)
        c2 = self.d2(F.max_pool2d(c1, 2))
        m = self.mid(F.max_pool2d(c2, 2))
        x = self.u2(torch.cat([self.up2(m), c2], 1))
        x = self.u1(torch.cat([self.up1(x), c1], 1))
        return self.out(x)


def dice_score(p, t, eps=1.0):
    inter = (p * t).sum((1, 2, 3))
    return ((2 * inter + eps) / (p.sum((1, 2, 3)) + t.sum((1, 2, 3)) + eps)).mean()


def criterion(logits, t):
    return 1 - dice_score(torch.sigmoid(logits), t) + 0.5 * F.binary_cross_entropy_with_logits(logits, t)


xtr, ytr = make_blobs(240)
xva, yva = make_blobs(60)
model = UNet()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
print("all-foreground dice %.3f" % dice_score(torch.ones_like(yva), yva).item())
for epoch in range(6):
    model.train()
    tot = 0.0
    for idx in torch.randperm(len(xtr)).split(16):
        loss = criterion(model(xtr[idx]), ytr[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += loss.item() * len(idx)
    model.eval()
    with torch.no_grad():
        d = dice_score((model(xva) > 0).float(), yva).item()
    print(f"epoch {epoch} loss {tot / len(xtr):.4f} val dice {d:.4f}")
