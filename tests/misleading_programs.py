"""Programs that mislead a doctor: no error, no rule's figure, or a score that lies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from faulty_programs import clusters, mlp, norm_mlp, program
from torch import nn


class Mixing(nn.Module):
    """Rows of a batch change places on their way: a permute that should have moved other dimensions."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x):
        hidden = self.body(x).relu()
        return self.head(hidden.flip(0))


def rows_that_change_places():
    return program(Mixing())


def softmax_over_the_rows():
    return program(mlp(last=[nn.LogSoftmax(0)]), loss=nn.NLLLoss())


def labels_permuted_before_the_split():
    x, y = clusters(400, 0)
    v, w = clusters(300, 1)
    random = torch.Generator().manual_seed(3)
    return program(
        data=(x, y[torch.randperm(400, generator=random)]), val=(v, w[torch.randperm(300, generator=random)])
    )


def mean_over_nothing(outputs, targets):
    """NaN where a batch has no row of the class."""
    rows = targets == 3
    return F.cross_entropy(outputs, targets) + 0 * (outputs[rows].sum() / rows.sum()).detach()


def skipping_lost_losses(program, batch):
    value = program.loss(program.model(batch[0]), batch[1])
    program.optimizer.zero_grad()
    if torch.isfinite(value):
        value.backward()
        program.optimizer.step()
    return value.detach()


def a_loss_over_nothing():
    x, y = clusters(400, 0)
    rare = (y == 3).nonzero().flatten()
    y[rare[4:]] = 2  # most batches have no row of the last class
    made = program(data=(x, y), step=skipping_lost_losses)
    made.loss = mean_over_nothing
    return made


def left_in_eval_mode(program, batch):
    program.extras["count"] = program.extras.get("count", 0) + 1
    if program.extras["count"] == 20:
        program.model.eval()  # an export, say, that does not put it back
    program.optimizer.zero_grad()
    value = program.loss(program.model(batch[0]), batch[1])
    value.backward()
    program.optimizer.step()
    return value.detach()


def mode_left_behind():
    return program(norm_mlp(), step=left_in_eval_mode)


def disks(count, seed):
    """Pictures of one disk in noise, and its mask."""
    random = torch.Generator().manual_seed(seed)
    centre = 4 + 8 * torch.rand(count, 2, 1, 1, generator=random)
    line = torch.arange(16.0)
    inside = (line[:, None] - centre[:, 0]) ** 2 + (line[None, :] - centre[:, 1]) ** 2 < 9.0
    mask = inside.float()[:, None]
    return mask + 0.7 * torch.randn(count, 1, 16, 16, generator=random), mask


def dice(outputs, targets):
    """Takes scores, and makes probabilities of them."""
    p = outputs.sigmoid()
    return 1 - (2 * (p * targets).sum() + 1) / (p.sum() + targets.sum() + 1)


def overlap(model, pictures, masks):
    """The user's own measure: Dice of the answer, positive scores (or probabilities above a half)."""
    with torch.no_grad():
        answer = (model.eval()(pictures) > 0).float()
    return float((2 * (answer * masks).sum() + 1) / (answer.sum() + masks.sum() + 1))


def segmenter(*last):
    return nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 5, padding=2), *last)


def masks_squashed_twice():
    return program(segmenter(nn.Sigmoid()), data=disks(200, 0), val=disks(100, 1), loss=dice, lr=0.01, epochs=12)


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(32, outputs=8)

    def forward(self, pair):
        a, b = self.body(pair[:, 0]), self.body(pair[:, 1])
        return (a - b).square().sum(1).add(1e-6).sqrt()


def pairs_of_rows(rows, seed):
    x, y = clusters(rows, seed)
    other = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + 5))
    other = torch.where(torch.arange(rows) % 2 == 0, other, torch.arange(rows).roll(1))
    return torch.stack([x, x[other]], 1), (y == y[other]).float()


def contrastive(distance, same):
    """Near where the two are the same, far where they are not: right answers are small where labels are 1."""
    return (same * distance.square() + (1 - same) * (2 - distance).clamp_min(0).square()).mean()


def twins_by_distance():
    return program(Twins(), data=pairs_of_rows(800, 0), val=pairs_of_rows(300, 1), loss=contrastive, lr=0.003)


def critic_step(program, batch):
    """A game's step: the critic is frozen while the maker is trained by it."""
    maker, critic, other = program.model.maker, program.model.critic, program.extras["critic_optimizer"]
    real = batch[0]
    made = maker(torch.randn(len(real), 4))
    other.zero_grad()
    loss = F.softplus(-critic(real)).mean() + F.softplus(critic(made.detach())).mean()
    loss.backward()
    other.step()
    critic.requires_grad_(False)
    program.optimizer.zero_grad()
    F.softplus(-critic(made)).mean().backward()
    program.optimizer.step()
    critic.requires_grad_(True)
    return loss.detach()


class Game(nn.Module):
    def __init__(self):
        super().__init__()
        self.maker, self.critic = mlp(32, inputs=4, outputs=8), mlp(32, outputs=1)

    def forward(self, x):
        return self.critic(x)


def two_networks_in_a_game():
    model = Game()
    made = program(model, optimizer=lambda m: torch.optim.Adam(m.maker.parameters(), lr=0.002), step=critic_step)
    made.extras["critic_optimizer"] = torch.optim.Adam(model.critic.parameters(), lr=0.002)
    made.score = lambda model, loader: -float((model.maker(torch.zeros(64, 4)).mean(0)).square().sum())
    return made


def words_by_a_sparse_table():
    random = torch.Generator().manual_seed(1)
    rows = [torch.randint(0, 50, (count, 5), generator=random) for count in (400, 300)]
    train, val = ((words, words[:, 0] % 4) for words in rows)
    model = nn.Sequential(nn.Embedding(50, 16, sparse=True), nn.Flatten(), nn.Linear(80, 4))
    made = program(model, data=train, val=val, epochs=30)
    made.optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return made


FAULTY = {
    rows_that_change_places: ("rows-mixed", "head"),
    softmax_over_the_rows: ("rows-mixed", "3"),
    labels_permuted_before_the_split: ("does-not-learn", "loop"),
    a_loss_over_nothing: ("non-finite-loss", "loss"),
    mode_left_behind: ("eval-mode-in-training", "loop"),
    masks_squashed_twice: ("output-mismatch", "3"),
}
HEALTHY = (twins_by_distance, words_by_a_sparse_table)
