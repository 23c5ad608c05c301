"""DQN on a 5x5 grid world. Optimal return is about 0.93, a random walk gets well below 0."""
import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)
SIZE = 5


class GridWorld:
    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]

    def reset(self):
        self.pos = (0, 0)
        self.t = 0
        return self.obs()

    def obs(self):
        o = torch.zeros(SIZE * SIZE)
        o[self.pos[0] * SIZE + self.pos[1]] = 1.0
        return o

    def step(self, a):
        self.t += 1
        dr, dc = self.moves[a]
        r = min(max(self.pos[0] + dr, 0), SIZE - 1)
        c = min(max(self.pos[1] + dc, 0), SIZE - 1)
        self.pos = (r, c)
        if self.pos == (SIZE - 1, SIZE - 1):
            return self.obs(), 1.0, True
        if self.pos in ((2, 2), (1, 3)):
            return self.obs(), -1.0, True
        return self.obs(), -0.01, self.t >= 50


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(SIZE * SIZE, 64)
        self.l2 = nn.Linear(64, 4)

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))


def select_action(net, s, eps):
    if random.random() < eps:
        return random.randrange(4)
    with torch.no_grad():
        return net(s).argmax().item()


def optimize(net, target, opt, memory, batch_size=64, gamma=0.97):
    batch = random.sample(memory, batch_size)
    s, a, r, s2, done = zip(*batch)
    s, s2 = torch.stack(s), torch.stack(s2)
    a = torch.tensor(a).unsqueeze(1)
    r = torch.tensor(r)
    done = torch.tensor(done, dtype=torch.float32)
    q = net(s).gather(1, a).squeeze(1)
    with torch.no_grad():
        y = r + gamma * (1 - done) * target(s2).max(1).values
    loss = F.smooth_l1_loss(q, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()


def greedy_return(env, net):
    s, total, done = env.reset(), 0.0, False
    while not done:
        s, r, done = env.step(select_action(net, s, 0.0))
        total += r
    return total


def main():
    random.seed(0)
    torch.manual_seed(0)
    env = GridWorld()
    net, target = QNet(), QNet()
    target.load_state_dict(net.state_dict())
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    memory = deque(maxlen=5000)
    steps, loss = 0, float("nan")
    for episode in range(1, 301):
        eps = max(0.05, 1.0 - episode / 150)
        s, done, ret = env.reset(), False, 0.0
        while not done:
            a = select_action(net, s, eps)
            s2, r, done = env.step(a)
            memory.append((s, a, r, s2, done))
            s, ret, steps = s2, ret + r, steps + 1
            if len(memory) >= 200:
                loss = optimize(net, target, opt, memory)
            if steps % 100 == 0:
                target.load_state_dict(net.state_dict())
        if episode % 30 == 0:
            print(f"ep {episode} eps {eps:.2f} loss {loss:.4f} greedy return {greedy_return(GridWorld(), net):.2f}")


if __name__ == "__main__":
    main()
