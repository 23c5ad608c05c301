"""Junk mail filter over hashed words; the network follows an older TensorFlow script."""

import argparse

import numpy as np
import torch
import torch.nn as nn


def get_mail(n, rng, weights):
    counts = rng.poisson(0.6, size=(n, 80)).astype(np.float32)
    there = counts > 0
    score = np.tanh(np.sqrt(counts) @ weights) + 1.5 * (there[:, 0:6] & there[:, 6:12]).sum(1) - 1.2 * there[:, 12:16].any(1) - 0.2
    return counts, (score + 0.1 * rng.standard_normal(n) > 0).astype(np.int64)


class Filter(nn.Module):
    def __init__(self, hidden, keep_prob):
        super().__init__()
        self.layer1 = nn.Linear(80, hidden)
        self.drop1 = nn.Dropout(keep_prob)
        self.layer2 = nn.Linear(hidden, hidden)
        self.drop2 = nn.Dropout(keep_prob)
        self.logits = nn.Linear(hidden, 2)

    def forward(self, x):
        x = self.drop1(torch.relu(self.layer1(x)))
        x = self.drop2(torch.relu(self.layer2(x)))
        return self.logits(x)


p = argparse.ArgumentParser()
p.add_argument("--keep-prob", type=float, default=0.9)
p.add_argument("--hidden", type=int, default=32)
p.add_argument("--lr", type=float, default=1e-3)
p.add_argument("--steps", type=int, default=2000)
FLAGS = p.parse_args()

torch.manual_seed(0)
rng = np.random.default_rng(0)
w = rng.standard_normal(80).astype(np.float32) * 0.5
x_train, y_train = get_mail(12000, rng, w)
x_test, y_test = get_mail(1500, rng, w)
mu, sd = x_train.mean(0), x_train.std(0)
x_train, x_test = torch.from_numpy((x_train - mu) / sd), torch.from_numpy((x_test - mu) / sd)
y_train, y_test = torch.from_numpy(y_train), torch.from_numpy(y_test)

model = Filter(FLAGS.hidden, FLAGS.keep_prob)
opt = torch.optim.AdamW(model.parameters(), lr=FLAGS.lr, weight_decay=0.05)
for step in range(1, FLAGS.steps + 1):
    model.train()
    idx = torch.from_numpy(rng.integers(0, len(x_train), 64))
    loss = nn.functional.cross_entropy(model(x_train[idx]), y_train[idx])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 500 == 0:
        model.eval()
        with torch.no_grad():
            out = model(x_test)
            test_loss = nn.functional.cross_entropy(out, y_test).item()
            acc = (out.argmax(1) == y_test).float().mean().item()
        print(f"step {step} loss {loss.item():.4f} test loss {test_loss:.4f} test accuracy {acc:.4f}")
