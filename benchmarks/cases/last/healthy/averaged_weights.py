"""A pre-norm transformer that is scored with an average of its weights.

Beside the weights, the update keeps an exponential moving average of them, and the program's
evaluation runs that copy, as is usual for generators and large classifiers. Rows of 8x8 digits are
the tokens. Weight decay is left off all vectors (biases, normalisation, positions).
"""

import copy

import torch
from case import Case, accuracy, standard_step
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93


class RowTransformer(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        self.block = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(8 * width, 10)

    def forward(self, x):
        return self.head(self.norm(self.block(self.embed(x) + self.position)).flatten(1))


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = (torch.tensor(x, dtype=torch.float32).reshape(-1, 8, 8) - 5) / 6, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1300], order[1300:]
    model = RowTransformer()
    average = copy.deepcopy(model).eval()

    def step(case, batch):
        loss = standard_step(case, batch)
        with torch.no_grad():
            for kept, current in zip(average.parameters(), case.model.parameters(), strict=False):
                kept.lerp_(current, 0.05)
        return loss

    def evaluate(case):
        with torch.no_grad():
            return case.score(average, case.val)

    matrices = [p for name, p in model.named_parameters() if p.dim() > 1 and name != "position"]
    vectors = [p for name, p in model.named_parameters() if p.dim() == 1 or name == "position"]
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=0.003),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=250),
        epochs=10,
        score=accuracy,
        step=step,
        evaluate=evaluate,
    )
