"""REINFORCE on a batch of corridor walks: reach the right end before time runs out."""
import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.manual_seed(0)
torch.set_num_threads(1)
LENGTH, HORIZON, WALKERS, GAMMA = 7, 16, 32, 0.95

policy = nn.Sequential(nn.Linear(LENGTH, 32), nn.Tanh(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)


def rollout():
    pos = torch.full((WALKERS,), LENGTH // 2)
    alive = torch.ones(WALKERS)
    logps, rewards, masks = [], [], []
    for t in range(HORIZON):
        obs = nn.functional.one_hot(pos, LENGTH).float()
        dist = Categorical(logits=policy(obs))
        a = dist.sample()
        logps.append(dist.log_prob(a))
        masks.append(alive)
        pos = (pos + 2 * a - 1).clamp(0, LENGTH - 1)
        goal = (pos == LENGTH - 1).float()
        rewards.append(alive * (goal - 0.02))
        alive = alive * (1 - goal)
    return torch.stack(logps), torch.stack(rewards), torch.stack(masks)


def discount(rewards):
    out, g = torch.zeros_like(rewards), torch.zeros(WALKERS)
    for t in reversed(range(HORIZON)):
        g = rewards[t] + GAMMA * g
        out[t] = g
    return out


window = []
for update in range(1, 201):
    logps, rewards, masks = rollout()
    returns = discount(rewards)
    baseline = (returns * masks).sum() / masks.sum()
    advantage = (returns - baseline) * masks
    loss = (logps * advantage).sum() / masks.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    window.append(rewards.sum(0).mean().item())
    if update % 20 == 0:
        print(f"update {update} loss {loss.item():.4f} mean return {sum(window[-20:]) / 20:.3f}")
