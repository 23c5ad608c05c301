"""DQN on a 5x5 maze with a pit; replay buffer and a target network."""

import copy
import random
from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

SIZE, GOAL, PITS = 5, (4, 4), {(1, 1), (2, 3), (3, 1)}
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
GAMMA, BATCH = 0.95, 64


def encode(pos):
    v = torch.zeros(SIZE * SIZE)
    v[pos[0] * SIZE + pos[1]] = 1.0
    return v


def step(pos, action):
    r = min(max(pos[0] + MOVES[action][0], 0), SIZE - 1)
    c = min(max(pos[1] + MOVES[action][1], 0), SIZE - 1)
    if (r, c) == GOAL:
        return (r, c), 1.0, True
    if (r, c) in PITS:
        return (r, c), -1.0, True
    return (r, c), -0.02, False


def start():
    while True:
        pos = (random.randrange(SIZE), random.randrange(SIZE))
        if pos != GOAL and pos not in PITS:
            return pos


def learn(q, target, optimizer, memory):
    states, actions, rewards, nexts, dones = zip(*random.sample(memory, BATCH), strict=True)
    states, nexts = torch.stack(states), torch.stack(nexts)
    actions = torch.tensor(actions).unsqueeze(1)
    rewards = torch.tensor(rewards)
    alive = 1.0 - torch.tensor(dones, dtype=torch.float32)
    current = q(states).gather(1, actions)
    with torch.no_grad():
        expected = rewards + GAMMA * alive * target(nexts).max(1).values
    loss = F.mse_loss(current, expected)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def evaluate(q):
    total, starts = 0.0, [(r, c) for r in range(SIZE) for c in range(SIZE) if (r, c) != GOAL and (r, c) not in PITS]
    for pos in starts:
        for _ in range(20):
            with torch.no_grad():
                pos, reward, done = step(pos, int(q(encode(pos)).argmax()))
            total += reward
            if done:
                break
    return total / len(starts)


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    random.seed(0)
    q = nn.Sequential(nn.Linear(SIZE * SIZE, 64), nn.ReLU(), nn.Linear(64, 4))
    target = copy.deepcopy(q)
    optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
    memory = deque(maxlen=4000)
    pos, loss, epsilon = start(), 0.0, 1.0
    for t in range(5000):
        epsilon = max(0.1, 1.0 - t / 2500)
        action = random.randrange(4) if random.random() < epsilon else int(q(encode(pos)).argmax())
        nxt, reward, done = step(pos, action)
        memory.append((encode(pos), action, reward, encode(nxt), done))
        pos = start() if done else nxt
        if len(memory) >= 500:
            loss = learn(q, target, optimizer, memory)
        if t % 100 == 0:
            target.load_state_dict(q.state_dict())
        if t % 1000 == 999:
            print(f"step {t + 1} loss {loss:.4f} return {evaluate(q):.3f}")
