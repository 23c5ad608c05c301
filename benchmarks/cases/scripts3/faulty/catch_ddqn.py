"""Catch the falling ball: DQN with replay, a target network and double-Q targets. A perfect player scores 1.0."""
import random

import numpy as np
import torch
from torch import nn

ROWS, COLS = 6, 5


class Catch:
    def __init__(self, rng):
        self.rng = rng

    def reset(self):
        self.ball, self.row, self.paddle = self.rng.integers(COLS), 0, COLS // 2
        return self.frame()

    def frame(self):
        f = np.zeros((ROWS, COLS), np.float32)
        f[self.row, self.ball] = 1
        f[-1, self.paddle] = 1
        return f.ravel()

    def step(self, action):
        self.paddle = min(max(self.paddle + action - 1, 0), COLS - 1)
        self.row += 1
        done = self.row == ROWS - 1
        reward = (1.0 if self.paddle == self.ball else -1.0) if done else 0.0
        return self.frame(), reward, done


class Replay:
    def __init__(self, size=4000):
        self.items, self.size = [], size

    def add(self, *item):
        if len(self.items) == self.size:
            self.items.pop(0)
        self.items.append(item)

    def sample(self, n):
        s, a, r, s2, d = map(np.array, zip(*random.sample(self.items, n)))
        return (
            torch.from_numpy(s),
            torch.from_numpy(a),
            torch.from_numpy(r).float(),
            torch.from_numpy(s2),
            torch.from_numpy(d).float(),
        )


class Agent:
    gamma = 0.95

    def __init__(self):
        self.online, self.target = self.build(), self.build()
        self.target.load_state_dict(self.online.state_dict())
        self.optim = torch.optim.RMSprop(self.online.parameters(), lr=5e-4)

    def build(self):
        return nn.Sequential(nn.Linear(ROWS * COLS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))

    @torch.no_grad()
    def act(self, s, eps):
        if random.random() < eps:
            return random.randrange(3)
        return int(self.online(torch.from_numpy(s)).argmax())

    def learn(self, batch):
        s, a, r, s2, d = batch
        q = self.online(s).gather(1, a[:, None])
        with torch.no_grad():
            best = self.online(s2).argmax(1, keepdim=True)
            goal = r + self.gamma * (1 - d) * self.target(s2).gather(1, best).squeeze(1)
        loss = (q - goal).pow(2).mean()
        self.optim.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optim.step()
        return loss.item()

    def sync(self):
        self.target.load_state_dict(self.online.state_dict())


def play(agent, env, games=100):
    total = 0.0
    for _ in range(games):
        s, done = env.reset(), False
        while not done:
            s, r, done = env.step(agent.act(s, 0.0))
            total += r
    return total / games


def main(episodes=450):
    random.seed(4)
    torch.manual_seed(4)
    env, agent, memory = Catch(np.random.default_rng(4)), Agent(), Replay()
    frames, loss = 0, 0.0
    for episode in range(1, episodes + 1):
        s, done = env.reset(), False
        while not done:
            a = agent.act(s, max(0.05, 1 - episode / 250))
            s2, r, done = env.step(a)
            memory.add(s, a, r, s2, done)
            s, frames = s2, frames + 1
            if len(memory.items) > 200:
                loss = agent.learn(memory.sample(32))
            if frames % 100 == 0:
                agent.sync()
        if episode % 90 == 0:
            print(f"episode {episode} loss {loss:.4f} score {play(agent, Catch(np.random.default_rng(9))):.2f}")


if __name__ == "__main__":
    main()
