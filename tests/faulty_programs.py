"""Small programs, each with one fault, and healthy ones: what the doctor's tests examine. Under 0.2 s a training."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from levelhead.doctor import Program
from levelhead.doctor.program import standard_step


def clusters(rows: int, seed: int, dims: int = 8, classes: int = 4):
    """Each class is two far clusters: a linear model does not separate them, a small network does."""
    centres = 2.0 * torch.randn(2 * classes, dims, generator=torch.Generator().manual_seed(7))
    random = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 2 * classes, (rows,), generator=random)
    return centres[which] / 2.2 + 0.45 * torch.randn(rows, dims, generator=random), which % classes


def mlp(*hidden, inputs=8, outputs=4, activation=nn.ReLU, last=()):
    layers, width = [], inputs
    for each in hidden or (32,):
        layers += [nn.Linear(width, each), activation()]
        width = each
    return nn.Sequential(*layers, nn.Linear(width, outputs), *last)


def accuracy(model, loader):
    hits = rows = 0
    for x, y in loader:
        hits += int((model(x).argmax(1) == y).sum())
        rows += len(y)
    return hits / rows


def program(model=None, *, lr=0.01, rows=400, batch=25, epochs=10, data=None, val=None, optimizer=None, **others):
    """A healthy program, and what a case changes in it."""
    x, y = data or clusters(rows, 0)
    v, w = val or clusters(300, 1)
    model = model if model is not None else mlp()
    options = {"shuffle": True} | others.pop("loader", {})
    loss = others.pop("loss", nn.CrossEntropyLoss())
    return Program(
        model,
        loss,
        optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=lr),
        train=DataLoader(TensorDataset(x, y), batch_size=batch, **options),
        val=DataLoader(TensorDataset(v, w), batch_size=300),
        epochs=epochs,
        **others,
    )


def norm_mlp(dropout=0.0, momentum=0.1):
    return nn.Sequential(
        nn.Linear(8, 32, bias=False),
        nn.BatchNorm1d(32, momentum=momentum),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(32, 4),
    )


# Faulty: what it returns, and what the doctor is to say: (cause, where).


def inputs_in_bytes():
    x, y = clusters(400, 0)
    v, w = clusters(300, 1)
    return program(mlp(activation=nn.Tanh), data=(128 + 40 * x, y), val=(128 + 40 * v, w), lr=0.002, epochs=6)


def labels_shifted_by_rows():
    x, y = clusters(400, 0)
    return program(data=(x, y.roll(17)))


def one_label_only():
    x, y = clusters(400, 0)
    return program(data=(x, torch.zeros_like(y)))


def nan_in_inputs():
    x, y = clusters(400, 0)
    x[5, 3] = torch.nan
    return program(data=(x, y))


def sorted_batches():
    x, y = clusters(400, 0)
    order = y.argsort(stable=True)
    sgd = lambda model: torch.optim.SGD(model.parameters(), lr=0.3)  # noqa: E731
    return program(data=(x[order], y[order]), loader={"shuffle": False}, optimizer=sgd, epochs=4)


def validation_not_standardized():
    v, w = clusters(300, 1)
    return program(val=(20 * v + 50, w))


def weights_all_alike():
    model = mlp(activation=nn.Tanh)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    return program(model)


def weights_far_too_small():
    model = mlp(32, 32, 32, activation=nn.Tanh)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.0005)
    return program(model, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.2))


def units_switched_off():
    model = mlp()
    nn.init.constant_(model[0].bias, -30.0)
    return program(model)


def products(rows, seed):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :1] * x[:, 1:2]


def nothing_but_linear():
    model = mlp(32, outputs=1, activation=nn.Identity)
    return program(model, data=products(400, 0), val=products(300, 1), loss=nn.MSELoss(), epochs=30)


def sigmoid_then_softmax():
    return program(mlp(last=[nn.Sigmoid()]), lr=0.003, epochs=5)


def last_batch_of_one():
    return program(norm_mlp(), rows=401)


def eval_mode_stays_on():
    def step(program, batch):
        program.model.eval()
        program.optimizer.zero_grad()
        loss = program.loss(program.model(batch[0]), batch[1])
        loss.backward()
        program.optimizer.step()
        return loss.detach()

    return program(norm_mlp(0.2), step=step)


def dropout_at_evaluation():
    def evaluate(program):
        program.model.train()
        with torch.no_grad():
            return program.score(program.model, program.val)

    return program(norm_mlp(0.6), score=accuracy, evaluate=evaluate)


def statistics_with_nan():
    model = norm_mlp()
    model[1].running_var[3] = torch.nan
    return program(model)


def column_against_row():
    (x, y), (v, w) = products(400, 0), products(300, 1)
    return program(
        mlp(outputs=1), data=(x, y[:, 0]), val=(v, w[:, 0]), loss=lambda o, t: ((o - t) ** 2).mean(), epochs=30
    )


def uphill():
    return program(optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1, maximize=True))


def uphill_by_sign():
    def step(program, batch):
        program.optimizer.zero_grad()
        loss = program.loss(program.model(batch[0]), batch[1])
        (-loss).backward()
        program.optimizer.step()
        return loss.detach()

    return program(step=step, lr=0.001)


def raw_and_decayed():
    x, y = clusters(400, 0)
    v, w = clusters(300, 1)
    scale, offset = torch.logspace(0, 3, 8), torch.logspace(1, 4, 8)
    sgd = lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.3)  # noqa: E731
    torch.manual_seed(0)
    return program(mlp(), data=(offset + scale * x, y), val=(offset + scale * v, w), optimizer=sgd, epochs=20)


class CutOff(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.body(x).relu().detach())


def cut_off():
    return program(CutOff())


def no_gradient_at_all():
    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs.detach(), targets)

    return program(loss=loss)


def rate_of_ten():
    return program(optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=30.0, momentum=0.9))


def rate_of_a_millionth():
    return program(lr=1e-6)


def never_cleared():
    def step(program, batch):
        loss = program.loss(program.model(batch[0]), batch[1])
        loss.backward()
        program.optimizer.step()
        return loss.detach()

    return program(step=step, optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.3))


def body_not_in_optimizer():
    model = mlp(6)
    return program(model, optimizer=lambda m: torch.optim.Adam(m[2].parameters(), lr=0.01))


def decay_of_one():
    return program(optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5))


def dropout_of_almost_all():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.97), nn.Linear(16, 4))
    return program(model)


def squared_error_far_from_one_hot():
    def loss(outputs, targets):
        return (outputs - nn.functional.one_hot(targets, 4).float()).abs().mean()

    return program(mlp(last=[nn.Sigmoid()]), loss=loss, lr=0.003)


def one_unit():
    torch.manual_seed(0)
    return program(mlp(1), rows=600, epochs=20)


def one_layer():
    def products(rows, seed):
        x = torch.randn(rows, 2, generator=torch.Generator().manual_seed(seed))
        return x, (x[:, 0] * x[:, 1] > 0).long()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2))
    return program(model, data=products(600, 0), val=products(300, 1), epochs=20)


def shares_of_relu():
    def loss(outputs, labels):
        shares = outputs / (outputs.sum(1, keepdim=True) + 1e-6)
        return nn.functional.nll_loss(shares.clamp(1e-6, 1).log(), labels)

    torch.manual_seed(2)
    return program(mlp(last=[nn.ReLU()]), lr=0.03, loss=loss)


def truth_table_slowly():
    x = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([0, 1, 0, 1])
    torch.manual_seed(0)
    model = mlp(8, inputs=2, outputs=2)
    return program(model, lr=1e-5, data=(x, y), val=(x, y), batch=4, epochs=200)


class Branches(nn.Module):
    """Two branches by functions; the first may run without gradients."""

    def __init__(self, without=False):
        super().__init__()
        self.without, self.body, self.side, self.head = without, nn.Linear(8, 24), nn.Linear(8, 4), nn.Linear(28, 4)

    def forward(self, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.without):
            first = torch.relu(self.body(x))
        return self.head(torch.cat([first, self.side(x)], 1))


def branch_without_gradients():
    return program(Branches(without=True))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def functions_switched_off():
    model = Functional()
    nn.init.constant_(model.first.bias, -30.0)
    return program(model)


def frozen_body():
    torch.manual_seed(0)
    model = mlp(6)
    model[0].requires_grad_(False)
    return program(model)


def schedule_by_batches():
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def step(program, batch):
        program.optimizer.zero_grad()
        loss = program.loss(program.model(batch[0]), batch[1])
        loss.backward()
        program.optimizer.step()
        schedule.step()
        return loss.detach()

    return program(model, optimizer=lambda _: optimizer, step=step)


def class_numbers_as_quantity():
    def hits(model, loader):
        return sum(int((model(x).flatten().round() == y).sum()) for x, y in loader) / 300

    torch.manual_seed(0)
    loss = lambda o, y: nn.functional.mse_loss(o.flatten(), y.float())  # noqa: E731
    return program(mlp(outputs=1), loss=loss, score=hits)


class Averaged(nn.Module):
    """Trains ``net`` and answers with an average of its weights, whose running statistics stay those of a new one."""

    def __init__(self):
        super().__init__()
        self.net = norm_mlp()
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    def forward(self, x):
        return self.net(x) if self.training else self.average(x)


def average_without_buffers():
    def step(program, batch):
        loss = standard_step(program, batch)
        with torch.no_grad():
            both = zip(program.model.average.parameters(), program.model.net.parameters(), strict=True)
            for slow, fast in both:
                slow.lerp_(fast, 0.1)
        return loss

    torch.manual_seed(0)
    shift = torch.arange(8.0)
    (x, y), (v, w) = clusters(400, 0), clusters(300, 1)
    optimizer = lambda model: torch.optim.Adam(model.net.parameters(), lr=0.01)  # noqa: E731
    return program(Averaged(), data=(2 * x + shift, y), val=(2 * v + shift, w), optimizer=optimizer, step=step)


def columns_in_another_order():
    scales = torch.tensor([1.0, 1.1, 0.9, 1.0, 1.2, 1.0, 0.8, 1.0])
    v, w = clusters(300, 1)
    (x, y), order = clusters(400, 0), [3, 0, 7, 1, 6, 2, 4, 5]
    torch.manual_seed(0)
    return program(data=(scales * x, y), val=((scales * v)[:, order], w))


def weights_far_too_large():
    torch.manual_seed(0)
    model = mlp(32, 32, 32, activation=nn.Tanh)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=3.0)
    return program(model, lr=0.001)


class Layered(nn.Module):
    """Three layers that are held by ``holder``, with a function between them and a dropout that may stay on."""

    def __init__(self, holder=nn.ModuleList, width=16, keeps=False, rate=0.0):
        super().__init__()
        self.first = nn.Linear(8, width)
        self.layers = holder([nn.Linear(width, width), nn.Linear(width, 4)])
        self.keeps, self.rate = keeps, rate

    def forward(self, x):
        x = F.dropout(F.relu(self.first(x)), self.rate, training=self.training or self.keeps)
        return self.layers[1](F.relu(self.layers[0](x)))


def layers_in_a_list():
    return program(Layered(list, width=4), lr=0.02)


def dropout_as_a_function_stays_on():
    return program(Layered(keeps=True, rate=0.6), lr=0.02, epochs=15)


def likelihood(outputs, targets):
    return outputs.log_softmax(1).gather(1, targets[:, None]).mean().clamp(min=-30)


def likelihood_minimized():
    return program(loss=likelihood)


def hinge(outputs, targets):
    return F.relu(1 - targets * outputs.squeeze(1)).mean()


def of_two(model, loader):
    return sum(float(((model(x).squeeze(1) > 0) == (y > 0.5)).double().mean()) for x, y in loader) / len(loader)


def hinge_with_labels_of_zero():
    (x, y), (v, w) = clusters(400, 0), clusters(300, 1)
    return program(mlp(outputs=1), data=(x, (y > 1).float()), val=(v, (w > 1).float()), loss=hinge, score=of_two)


def tags(rows, seed):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return x, (x @ torch.randn(8, 4, generator=torch.Generator().manual_seed(3)) > 0).float()


def of_tags(model, loader):
    return sum(float(((model(x) > 0.5) == (y > 0.5)).double().mean()) for x, y in loader) / len(loader)


def softmax_over_tags():
    made = mlp(last=[nn.Softmax(dim=1)])
    return program(made, data=tags(400, 0), val=tags(300, 1), loss=nn.BCELoss(), score=of_tags)


def softmax_over_tags_in_the_loss():
    data = {"data": tags(400, 0), "val": tags(300, 1)}
    return program(**data, loss=nn.CrossEntropyLoss(), score=lambda model, loader: of_tags(positive(model), loader))


def positive(model):
    return lambda x: (model(x) > 0).float()


def counts(rows, seed):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return x, torch.exp(0.8 * x[:, :1] + 1.5).round()


def counts_taken_for_logarithms():
    made = mlp(outputs=1, last=[nn.Softplus()])
    return program(made, data=counts(400, 0), val=counts(300, 1), loss=nn.PoissonNLLLoss(), epochs=15)


def clipping(program, batch):
    program.optimizer.zero_grad()
    value = program.loss(program.model(batch[0]), batch[1])
    value.backward()
    nn.utils.clip_grad_norm_(program.model.parameters(), 1e-4)
    program.optimizer.step()
    return value.detach()


def clipped_to_nothing():
    return program(optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.3), step=clipping)


def cleared_too_late(program, batch):
    value = program.loss(program.model(batch[0]), batch[1])
    value.backward()
    program.optimizer.zero_grad()
    program.optimizer.step()
    return value.detach()


def cleared_before_the_step():
    return program(step=cleared_too_late)


def stepped(program, batch):
    value = standard_step(program, batch)
    program.schedule.step()
    return value


def warm_up_without_end():
    made = program(step=stepped)
    made.extras["schedule"] = torch.optim.lr_scheduler.LambdaLR(made.optimizer, lambda i: i / 1e6)
    return made


def groups(*rates):
    def optimizer(model):
        parts = list(model)[::2]
        return torch.optim.Adam([{"params": p.parameters(), "lr": r} for p, r in zip(parts, rates, strict=True)])

    return optimizer


def body_at_a_rate_of_its_own():
    return program(mlp(6), optimizer=groups(1e-7, 0.01))


def summed_at_the_rate_of_a_mean():
    optimizer = {"optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=0.3, momentum=0.9)}
    return program(mlp(32, 32), loss=nn.CrossEntropyLoss(reduction="sum"), **optimizer)


def all_rows_in_one_batch():
    return program(batch=400, lr=0.003)


def maps_of_one_value():
    norm = nn.GroupNorm(32, 32)
    return program(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), norm, nn.Linear(32, 4)))


class Words(nn.Module):
    """Two words, embedded and recurrent, to one of four classes."""

    def __init__(self, size=8, units=16, scale=1.0, recurrent_scale=1.0):
        super().__init__()
        self.embed = nn.Embedding(20, size)
        self.rnn = nn.GRU(size, units, batch_first=True)
        self.head = nn.Linear(units, 4)
        with torch.no_grad():
            self.embed.weight.mul_(scale)
            for p in self.rnn.parameters():
                p.mul_(recurrent_scale)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0][:, -1])


def words(rows, seed):
    x = torch.randint(0, 20, (rows, 2), generator=torch.Generator().manual_seed(seed))
    return x, x.sum(1) % 4


def words_through_one_unit():
    return program(Words(units=1), data=words(400, 0), val=words(200, 1), epochs=12)


def words_far_apart():
    return program(Words(scale=100.0), data=words(400, 0), val=words(200, 1), epochs=12)


def gates_that_are_flat():
    return program(Words(recurrent_scale=100.0), data=words(400, 0), val=words(200, 1), epochs=12)


def tags_in_bytes():
    (x, y), (v, w) = tags(400, 0), tags(300, 1)
    logits = {"loss": nn.BCEWithLogitsLoss(), "score": lambda model, loader: of_tags(positive(model), loader)}
    return program(data=(x, 255 * y), val=(v, w), **logits)


class Factors(nn.Module):
    """The product of what is known of two things; ``start`` draws it."""

    def __init__(self, start):
        super().__init__()
        self.readers, self.books = nn.Embedding(20, 4), nn.Embedding(20, 4)
        start(self.readers.weight)
        start(self.books.weight)

    def forward(self, x):
        return (self.readers(x[:, 0]) * self.books(x[:, 1])).sum(1)


def ratings(rows, seed):
    taste, kind = (torch.randn(20, 2, generator=torch.Generator().manual_seed(s)) for s in (5, 6))
    x = torch.randint(0, 20, (rows, 2), generator=torch.Generator().manual_seed(seed))
    return x, (taste[x[:, 0]] * kind[x[:, 1]]).sum(1)


def factors_all_alike():
    model = Factors(lambda weight: nn.init.constant_(weight, 0.3))
    return program(model, data=ratings(600, 0), val=ratings(200, 1), loss=nn.MSELoss(), lr=0.03, epochs=20)


class Notes(nn.Module):
    """The mean of a note's words."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.embed(x).mean(1))


def notes(rows, seed):
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, (rows,), generator=random)
    own = 10 * y[:, None] + torch.randint(0, 10, (rows, 12), generator=random)
    any_ = torch.randint(0, 40, (rows, 12), generator=random)
    return torch.where(torch.rand(rows, 12, generator=random) < 0.5, own, any_), y


def notes_with_the_labels_of_others():
    x, y = notes(400, 0)
    return program(Notes(), data=(x, y.roll(17)), val=notes(300, 1), lr=0.03)


def steps(program, batch):
    """Rounds the answers: no small step changes the loss."""
    program.optimizer.zero_grad()
    value = F.mse_loss(program.model(batch[0]).round(), F.one_hot(batch[1], 4).float())
    value.backward()
    program.optimizer.step()
    return value.detach()


def answers_rounded():
    return program(step=steps)


def one_class_ignored():
    (x, y), (v, w) = clusters(400, 0), clusters(300, 1)
    y, w = (torch.where(labels == 1, 0, labels) for labels in (y, w))  # half of the rows are of class 0
    return program(data=(x, y), val=(v, w), loss=nn.CrossEntropyLoss(ignore_index=0))


def softmax_between():
    return program(mlp(32, activation=lambda: nn.Softmax(dim=1)), epochs=4)


def answers_clamped():
    class Clamped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(outputs=1)

        def forward(self, x):
            return self.net(x).clamp(0, 1)

    return program(Clamped(), data=quantities(400, 0), val=quantities(300, 1), loss=nn.MSELoss())


def quantities(rows, seed):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :1] + x[:, 1:2]


def rate_that_grows():
    made = program(optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9), step=stepped)
    made.extras["schedule"] = torch.optim.lr_scheduler.ExponentialLR(made.optimizer, 1.1)
    return made


def labels_two_thirds_wrong():
    x, y = clusters(600, 0)
    random = torch.Generator().manual_seed(2)
    wrong = torch.rand(600, generator=random) < 0.67
    return program(data=(x, torch.where(wrong, torch.randint(0, 4, (600,), generator=random), y)), epochs=20)


def head_cleared_alone(program, batch):
    program.model[2].zero_grad()
    value = program.loss(program.model(batch[0]), batch[1])
    value.backward()
    program.optimizer.step()
    return value.detach()


def body_never_cleared():
    return program(optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9), step=head_cleared_alone)


def marks_for_unknown():
    (x, y), (v, w) = clusters(400, 0), clusters(300, 1)
    for rows, seed in ((x, 2), (v, 3)):
        rows[torch.rand(rows.shape, generator=torch.Generator().manual_seed(seed)) < 0.004] = 9.96921e36
    return program(nn.Sequential(nn.BatchNorm1d(8), *mlp()), data=(x, y), val=(v, w))


def training_targets_in_seconds():
    (x, y), val = quantities(400, 0), quantities(300, 1)
    return program(mlp(outputs=1), data=(x, 60 * y), val=val, loss=nn.MSELoss(), epochs=15)


class Signs(nn.Module):
    def forward(self, x):
        return (x > 0).float()


def signs_between():
    (x, y), (v, w) = clusters(400, 0), clusters(300, 1)
    return program(nn.Sequential(nn.Linear(8, 8), Signs(), nn.Linear(8, 4)), data=(x, y), val=(v, w), epochs=15)


FAULTY = {
    inputs_in_bytes: ("inputs-not-normalized", "data"),
    labels_shifted_by_rows: ("labels-corrupted", "data"),
    one_label_only: ("labels-invalid", "data"),
    nan_in_inputs: ("non-finite-data", "data"),
    sorted_batches: ("no-shuffle", "data"),
    validation_not_standardized: ("train-val-mismatch", "data"),
    weights_all_alike: ("constant-init", "0"),
    weights_far_too_small: ("init-too-small", None),
    units_switched_off: ("dead-units", "0"),
    nothing_but_linear: ("missing-nonlinearity", "0"),
    sigmoid_then_softmax: ("output-mismatch", "3"),
    last_batch_of_one: ("batch-too-small", "data"),
    eval_mode_stays_on: ("eval-mode-in-training", "loop"),
    dropout_at_evaluation: ("train-mode-in-eval", "loop"),
    statistics_with_nan: ("poisoned-running-statistics", "1"),
    column_against_row: ("loss-broadcast", "loss"),
    uphill: ("gradient-ascent", "optimizer"),
    uphill_by_sign: ("gradient-ascent", "loop"),
    cut_off: ("loss-detached", "body"),
    no_gradient_at_all: ("loss-detached", "loss"),
    rate_of_ten: ("learning-rate-too-high", "optimizer"),
    rate_of_a_millionth: ("learning-rate-too-low", "optimizer"),
    never_cleared: ("gradients-accumulate", "loop"),
    body_not_in_optimizer: ("parameters-not-trained", "optimizer"),
    decay_of_one: ("penalty-too-strong", "optimizer"),
    dropout_of_almost_all: ("dropout-too-strong", "2"),
    squared_error_far_from_one_hot: ("loss-mismatch", "loss"),
    one_unit: ("model-too-small", "0"),
    one_layer: ("model-too-small", "0"),
    shares_of_relu: ("output-mismatch", "3"),
    truth_table_slowly: ("learning-rate-too-low", "optimizer"),
    branch_without_gradients: ("loss-detached", "body"),
    functions_switched_off: ("dead-units", "first"),
    frozen_body: ("parameters-not-trained", "0"),
    schedule_by_batches: ("learning-rate-too-low", "loop"),
    class_numbers_as_quantity: ("loss-mismatch", "loss"),
    average_without_buffers: ("stale-running-statistics", "average.1"),
    columns_in_another_order: ("train-val-mismatch", "data"),
    raw_and_decayed: ("inputs-not-normalized", "data"),
    weights_far_too_large: ("init-too-large", "0"),
    layers_in_a_list: ("parameters-not-trained", "optimizer"),
    dropout_as_a_function_stays_on: ("train-mode-in-eval", "loop"),
    likelihood_minimized: ("gradient-ascent", "loss"),
    hinge_with_labels_of_zero: ("loss-mismatch", "loss"),
    softmax_over_tags: ("output-mismatch", "3"),
    softmax_over_tags_in_the_loss: ("loss-mismatch", "loss"),
    counts_taken_for_logarithms: ("loss-mismatch", "loss"),
    clipped_to_nothing: ("learning-rate-too-low", "loop"),
    cleared_before_the_step: ("parameters-not-trained", "loop"),
    warm_up_without_end: ("learning-rate-too-low", "loop"),
    body_at_a_rate_of_its_own: ("learning-rate-too-low", "optimizer"),
    summed_at_the_rate_of_a_mean: ("learning-rate-too-high", "loss"),
    all_rows_in_one_batch: ("too-few-updates", "data"),
    maps_of_one_value: ("batch-too-small", "2"),
    words_through_one_unit: ("model-too-small", "rnn"),
    words_far_apart: ("init-too-large", "embed"),
    gates_that_are_flat: ("init-too-large", "rnn"),
    answers_rounded: ("loss-detached", "loss"),
    one_class_ignored: ("loss-mismatch", "loss"),
    answers_clamped: ("output-mismatch", None),
    rate_that_grows: ("learning-rate-too-high", "loop"),
    labels_two_thirds_wrong: ("labels-corrupted", "data"),
    body_never_cleared: ("gradients-accumulate", "loop"),
    marks_for_unknown: ("poisoned-running-statistics", "data"),
    training_targets_in_seconds: ("train-val-mismatch", "data"),
    signs_between: ("loss-detached", "1"),
    tags_in_bytes: ("labels-invalid", "data"),
    factors_all_alike: ("constant-init", "readers"),
    notes_with_the_labels_of_others: ("labels-corrupted", "data"),
}


# Healthy, some of them odd.


def plain():
    return program()


def loss_times_a_thousand():
    return program(
        loss=lambda o, t: 1000 * nn.functional.cross_entropy(o, t),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.0003, momentum=0.9),
    )


def clipped_and_penalized():
    def step(program, batch):
        program.model.train()
        program.optimizer.zero_grad()
        loss = program.loss(program.model(batch[0]), batch[1])
        (loss + 1e-4 * sum(p.abs().sum() for p in program.model.parameters())).backward()
        nn.utils.clip_grad_norm_(program.model.parameters(), 0.5)
        program.optimizer.step()
        return loss.detach()

    return program(step=step)


def bottleneck():
    coder = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    return program(nn.Sequential(*coder, nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 4)))


def zero_head():
    model = mlp()
    nn.init.zeros_(model[2].weight)
    return program(model)


def norm_and_light_dropout():
    return program(norm_mlp(0.1))


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, first, second):
        return self.net(torch.cat([first, second], 1))


def dictionaries():
    batches = [({"first": x[:, :4], "second": x[:, 4:]}, y) for x, y in program().train]
    made = program(Dictionary())
    made.train, made.val = batches, batches[:4]
    return made


class Dollars(nn.Module):
    """Scales its answers itself."""

    def __init__(self, mean, std):
        super().__init__()
        self.net, self.mean, self.std = mlp(outputs=1), mean, std

    def forward(self, x):
        return self.mean + self.std * self.net(x)


def scaled_by_the_model():
    def linear(rows, seed):
        x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
        return x, 300_000 + 80_000 * x[:, :1]

    torch.manual_seed(0)
    loss = lambda o, t: nn.functional.mse_loss(o, t) / 80_000**2  # noqa: E731
    model = Dollars(300_000.0, 80_000.0)
    return program(model, data=linear(400, 0), val=linear(300, 1), loss=loss, lr=0.02, epochs=20)


def likelihood_maximized():
    return program(loss=likelihood, optimizer=lambda m: torch.optim.Adam(m.parameters(), lr=0.01, maximize=True))


def counts_of(rows, seed):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return x, torch.exp(0.8 * x[:, :1] + 1.5).round()


def poisson_likelihood(outputs, targets):
    return (targets * outputs - outputs.exp()).mean()


def of_rates(model, loader):
    p, y = (torch.cat(part) for part in zip(*[(model(x).exp(), y) for x, y in loader], strict=True))
    return float(1 - (p - y).square().mean() / y.var())


def rates_by_likelihood():
    data = {"data": counts_of(400, 0), "val": counts_of(300, 1)}
    adam = {"optimizer": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, maximize=True)}
    return program(mlp(outputs=1), **data, **adam, loss=poisson_likelihood, score=of_rates, epochs=20)


def dropout_as_a_function():
    return program(Layered(rate=0.2), lr=0.02, epochs=15)


def rates_ten_times_apart():
    return program(optimizer=groups(0.001, 0.01))


def blended(program, batch):
    x, y = batch
    share, order = torch.rand(len(x), 1), torch.randperm(len(x))
    y = F.one_hot(y, 4).float()
    program.optimizer.zero_grad()
    value = program.loss(program.model(share * x + (1 - share) * x[order]), share * y + (1 - share) * y[order])
    value.backward()
    program.optimizer.step()
    return value.detach()


def blended_pairs():
    return program(step=blended, epochs=20)


def mean_of_draws(program):
    program.model.train()
    with torch.no_grad():
        return accuracy(lambda x: sum(program.model(x).softmax(1) for _ in range(20)), program.val)


def dropout_on_purpose():
    return program(norm_free_dropout(0.2), evaluate=mean_of_draws)


def norm_free_dropout(rate):
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(rate), nn.Linear(32, 4))


def with_closure(program, batch):
    def closure():
        program.optimizer.zero_grad()
        value = program.loss(program.model(batch[0]), batch[1])
        value.backward()
        return value

    return program.optimizer.step(closure).detach()


def second_order():
    lbfgs = {"optimizer": lambda m: torch.optim.LBFGS(m.parameters(), lr=0.3, line_search_fn="strong_wolfe")}
    return program(batch=400, epochs=8, step=with_closure, **lbfgs)


class Together(nn.Module):
    """Takes a pair as one argument."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, pair):
        left, right = pair
        return self.net(torch.cat([left, right], 1))


def pairs_as_one_argument():
    made = program(Together())
    (x, y), (v, w) = clusters(400, 0), clusters(300, 1)
    made.train = [((a[:, :3], a[:, 3:]), b) for a, b in zip(x.split(25), y.split(25), strict=True)]
    made.val = [((v[:, :3], v[:, 3:]), w)]
    made.score = accuracy
    return made


HEALTHY = (
    rates_by_likelihood,
    blended_pairs,
    dropout_on_purpose,
    second_order,
    pairs_as_one_argument,
    likelihood_maximized,
    dropout_as_a_function,
    rates_ten_times_apart,
    scaled_by_the_model,
    plain,
    loss_times_a_thousand,
    clipped_and_penalized,
    bottleneck,
    zero_head,
    norm_and_light_dropout,
    dictionaries,
)
