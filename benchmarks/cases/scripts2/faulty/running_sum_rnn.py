"""Vanilla RNN that adds the marked numbers of a long sequence."""
import torch
import torch.nn as nn

torch.manual_seed(0)
torch.set_num_threads(1)
T, HIDDEN, BATCH = 60, 48, 64


def batch(n):
    """Each sequence holds random numbers, about a tenth of them marked; target is the scaled sum of the marked ones."""
    v = torch.rand(n, T) * 2 - 1
    m = (torch.rand(n, T) < 0.1).float()
    x = torch.stack([v, m], -1)
    y = (v * m).sum(1, keepdim=True) / 1.4
    return x, y


class SumRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(2, HIDDEN, nonlinearity="relu", batch_first=True)
        self.readout = nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            self.rnn.weight_hh_l0.copy_(torch.eye(HIDDEN) + 0.02 * torch.randn(HIDDEN, HIDDEN))

    def forward(self, x):
        h, _ = self.rnn(x)
        return self.readout(h[:, -1])


model = SumRNN()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
loss_fn = nn.MSELoss()
x_test, y_test = batch(500)
history = []
for step in range(1, 601):
    x, y = batch(BATCH)
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append(loss.item())
    if step % 60 == 0:
        with torch.no_grad():
            r2 = 1 - (model(x_test) - y_test).pow(2).mean() / y_test.var()
        print(f"step {step:4d} loss {sum(history[-60:]) / 60:.4f} test R2 {r2.item():.4f}")
