"""Where is the tip of a three-joint arm? A deep tanh network."""
import torch
from torch import nn


def arm(n):
    q = (torch.rand(n, 3) - 0.5) * 3
    a = q.cumsum(1)
    lengths = torch.tensor([1.0, 0.7, 0.4])
    tip = torch.stack([(lengths * a.cos()).sum(1), (lengths * a.sin()).sum(1)], 1)
    return q, tip


class ArmNet(nn.Module):
    def __init__(self, depth=7, width=48):
        super().__init__()
        sizes = [3] + [width] * depth
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])])
        self.tip = nn.Linear(width, 2)
        self.reset_parameters()

    def reset_parameters(self):
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=0.01)
                nn.init.zeros_(m.bias)

    def forward(self, q):
        for layer in self.layers:
            q = torch.tanh(layer(q))
        return self.tip(q)


def main():
    torch.manual_seed(30)
    q, tip = arm(3000)
    q_test, tip_test = arm(600)
    net = ArmNet()
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    sched = torch.optim.lr_scheduler.MultiStepLR(opt, [20, 26], gamma=0.3)
    for epoch in range(30):
        for i in torch.randperm(len(q)).split(100):
            loss = (net(q[i]) - tip[i]).square().mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
        sched.step()
        if epoch % 5 == 4:
            with torch.no_grad():
                err = (net(q_test) - tip_test).square().mean()
            print(f"{epoch} train {loss.item():.5f} test mse {err.item():.5f}")


main()
