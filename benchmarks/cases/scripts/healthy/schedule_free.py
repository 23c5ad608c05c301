"""Wine with a schedule-free optimizer: its weights are swapped for evaluation."""

import torch
from sklearn.datasets import load_wine
from torch import nn


class ScheduleFreeSGD(torch.optim.Optimizer):
    """Defazio et al. 2024, The Road Less Scheduled, in its plainest form."""

    def __init__(self, params, lr=0.1, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "k": 0, "train_mode": True})

    @torch.no_grad()
    def eval(self):
        self._swap(to_train=False)

    @torch.no_grad()
    def train(self):
        self._swap(to_train=True)

    def _swap(self, to_train):
        for group in self.param_groups:
            if group["train_mode"] != to_train:
                beta = group["beta"]
                for p in group["params"]:
                    if "z" in self.state[p]:
                        weight = 1 - beta if to_train else 1 - 1 / beta
                        p.lerp_(self.state[p]["z"], weight)
                group["train_mode"] = to_train

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta, lr = group["beta"], group["lr"]
            c = 1 / (group["k"] + 1)
            for p in group["params"]:
                if p.grad is None:
                    continue
                z = self.state[p].setdefault("z", p.clone())
                x = p.lerp(z, 1 - 1 / beta)
                z.sub_(p.grad, alpha=lr)
                x.lerp_(z, c)
                p.copy_(x.lerp(z, 1 - beta))
            group["k"] += 1


torch.manual_seed(0)
features, classes = load_wine(return_X_y=True)
x, y = torch.tensor(features).float(), torch.tensor(classes)
order = torch.randperm(len(x))
train, test = order[:130], order[130:]
x = (x - x[train].mean(0)) / x[train].std(0)
model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
loss_fn, optimizer = nn.CrossEntropyLoss(), ScheduleFreeSGD(model.parameters(), lr=0.2)
for epoch in range(40):
    model.train()
    optimizer.train()
    for chunk in train[torch.randperm(len(train))].split(26):
        loss = loss_fn(model(x[chunk]), y[chunk])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    optimizer.eval()
    with torch.no_grad():
        val_loss = loss_fn(model(x[test]), y[test]).item()
    if epoch % 8 == 7:
        print(f"{epoch}: {val_loss:.4f}")
