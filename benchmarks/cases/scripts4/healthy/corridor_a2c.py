"""Advantage actor-critic in a corridor with a key: the policy's loss may go anywhere, the return must rise."""

import torch
from torch import nn
from torch.distributions import Categorical

LENGTH, HORIZON, ENVS = 7, 24, 32


class Corridor:
    """Fetch the key at the left end, open the door at the right end."""

    def __init__(self, n):
        self.n = n
        self.reset(torch.ones(n, dtype=torch.bool))

    def reset(self, where):
        if not hasattr(self, "pos"):
            self.pos, self.key = torch.zeros(self.n, dtype=torch.long), torch.zeros(self.n)
        self.pos = torch.where(where, torch.randint(1, LENGTH - 1, (self.n,)), self.pos)
        self.key = torch.where(where, torch.zeros(self.n), self.key)

    def observe(self):
        return torch.cat([nn.functional.one_hot(self.pos, LENGTH).float(), self.key[:, None]], 1)

    def step(self, action):
        self.pos = (self.pos + 2 * action - 1).clamp(0, LENGTH - 1)
        found = (self.pos == 0) & (self.key == 0)
        self.key = torch.maximum(self.key, (self.pos == 0).float())
        done = (self.pos == LENGTH - 1) & (self.key == 1)
        reward = -0.02 + 0.3 * found.float() + done.float()
        self.reset(done)
        return reward, done.float()


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(LENGTH + 1, 64), nn.Tanh())
        self.actor, self.critic = nn.Linear(64, 2), nn.Linear(64, 1)

    def forward(self, obs):
        h = self.body(obs)
        return Categorical(logits=self.actor(h)), self.critic(h).squeeze(-1)


torch.manual_seed(3)
env, net = Corridor(ENVS), ActorCritic()
optimizer = torch.optim.RMSprop(net.parameters(), lr=2e-3)
history = []
for update in range(200):
    logps, values, rewards, dones, entropies = [], [], [], [], []
    for _ in range(HORIZON):
        policy, value = net(env.observe())
        action = policy.sample()
        reward, done = env.step(action)
        logps.append(policy.log_prob(action))
        entropies.append(policy.entropy())
        values.append(value)
        rewards.append(reward)
        dones.append(done)
    with torch.no_grad():
        running = net(env.observe())[1]
        returns = []
        for reward, done in zip(reversed(rewards), reversed(dones), strict=True):
            running = reward + 0.97 * running * (1 - done)
            returns.insert(0, running)
    returns, values = torch.stack(returns), torch.stack(values)
    advantage = (returns - values).detach()
    actor_loss = -(torch.stack(logps) * advantage).mean()
    critic_loss = nn.functional.mse_loss(values, returns)
    loss = actor_loss + 0.5 * critic_loss - 0.01 * torch.stack(entropies).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    optimizer.step()
    history.append(torch.stack(rewards).sum(0).mean().item())
    if update % 40 == 39:
        print(f"update {update + 1} loss {loss.item():.4f} reward of {HORIZON} steps {sum(history[-20:]) / 20:.4f} (at first {history[0]:.4f})")
