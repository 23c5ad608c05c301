"""DQN on a corridor: replay memory, a target network, falling exploration."""

import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(0)
torch.manual_seed(0)
LENGTH, GAMMA, BATCH = 8, 0.95, 64


class Corridor:
    """Walk to the right end (reward 1); the left end costs 1; 30 moves at most."""

    def reset(self):
        self.at, self.moves = LENGTH // 2, 0
        return self.state()

    def state(self):
        x = torch.zeros(LENGTH)
        x[self.at] = 1.0
        return x

    def step(self, action):
        self.at += 1 if action == 1 else -1
        self.moves += 1
        if self.at == LENGTH - 1:
            return self.state(), 1.0, True
        if self.at == 0:
            return self.state(), -1.0, True
        return self.state(), -0.01, self.moves >= 30


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(LENGTH, 64)
        self.fc2 = nn.Linear(64, 2)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


policy, target = QNet(), QNet()
target.load_state_dict(policy.state_dict())
target.eval()
optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3)
memory = deque(maxlen=5000)
env, epsilon, updates = Corridor(), 1.0, 0

for episode in range(120):
    state, total, done = env.reset(), 0.0, False
    while not done:
        if random.random() < epsilon:
            action = random.randrange(2)
        else:
            with torch.no_grad():
                action = policy(state).argmax().item()
        following, reward, done = env.step(action)
        memory.append((state, action, reward, following, done))
        state, total = following, total + reward
        if len(memory) < BATCH:
            continue
        s, a, r, s2, d = zip(*random.sample(memory, BATCH), strict=True)
        s, s2 = torch.stack(s), torch.stack(s2)
        a, r, d = torch.tensor(a), torch.tensor(r), torch.tensor(d, dtype=torch.float32)
        q = policy(s).gather(1, a.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            goal = r + GAMMA * (1 - d) * target(s2).max(1).values
        loss = F.smooth_l1_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates += 1
        if updates % 50 == 0:
            target.load_state_dict(policy.state_dict())
    epsilon = max(0.05, epsilon * 0.97)
    if episode % 20 == 0:
        print(f"episode {episode}: return {total:.2f}, epsilon {epsilon:.2f}")
