"""Distil a wide digit classifier into a small one."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(4)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16.0
y = torch.tensor(digits.target)
order = torch.randperm(len(x))
train, test = order[:1200], order[1200:]


def batches(index, size):
    index = index[torch.randperm(len(index))]
    yield from index.split(size)


teacher = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 10))
opt_t = torch.optim.Adam(teacher.parameters(), lr=2e-3)
for _ in range(25):
    for b in batches(train, 64):
        loss = F.cross_entropy(teacher(x[b]), y[b])
        opt_t.zero_grad()
        loss.backward()
        opt_t.step()
teacher.eval()
for p in teacher.parameters():
    p.requires_grad_(False)
print("teacher accuracy", (teacher(x[test]).argmax(1) == y[test]).float().mean().item())

T = 4.0
student = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
opt_s = torch.optim.Adam(student.parameters(), lr=2e-3)
for epoch in range(40):
    student.train()
    running = 0.0
    for b in batches(train, 64):
        with torch.no_grad():
            soft = F.softmax(teacher(x[b]) / T, dim=1)
        out = student(x[b])
        distil = F.kl_div(F.softmax(out / T, dim=1), soft, reduction="batchmean") * T * T
        opt_s.zero_grad()
        distil.backward()
        opt_s.step()
        running += distil.item() * len(b)
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} distillation loss {running / len(train):.4f}")

student.eval()
with torch.no_grad():
    out = student(x[test])
    nll = F.cross_entropy(out, y[test]).item()
    acc = (out.argmax(1) == y[test]).float().mean().item()
    gap = F.kl_div(F.log_softmax(out, 1), F.log_softmax(teacher(x[test]), 1), log_target=True, reduction="batchmean")
print(f"student accuracy {acc:.4f} nll {nll:.4f} kl to teacher {gap:.4f}")
