"""Knowledge distillation: a big teacher, a small student that sees few labels."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

T = 3.0
ALPHA = 0.95


def mlp(*sizes):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.ELU()]
    return nn.Sequential(*layers[:-1])


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def train_teacher(teacher, loader, epochs=12):
    opt = torch.optim.Adam(teacher.parameters(), lr=1e-3)
    teacher.train()
    for _ in range(epochs):
        for x, y in loader:
            loss = F.cross_entropy(teacher(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()


def distil_loss(student_logits, teacher_logits, y):
    soft = F.kl_div(
        F.log_softmax(student_logits / T, dim=1),
        F.softmax(teacher_logits / T, dim=1),
        reduction="batchmean",
    )
    return ALPHA * T * T * soft + (1 - ALPHA) * F.cross_entropy(student_logits, y)


def train_student(student, teacher, loader, epochs=15):
    opt = torch.optim.Adam(student.parameters(), lr=3e-3)
    teacher.eval()
    for epoch in range(epochs):
        student.train()
        total = 0.0
        for x, y in loader:
            with torch.no_grad():
                target = teacher(x)
            loss = distil_loss(student(x), target, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
        print(f"student epoch {epoch} loss {total / len(loader):.4f}")


def main():
    torch.manual_seed(8)
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)
    x, y = (x - x.mean()) / x.std(), torch.tensor(y)
    i = torch.randperm(len(x))
    train, test = i[:1300], i[1300:]
    loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=50, shuffle=True)
    teacher, student = mlp(64, 256, 256, 10), mlp(64, 24, 10)
    train_teacher(teacher, loader)
    print(f"teacher accuracy {accuracy(teacher, x[test], y[test]):.4f}")
    train_student(student, teacher, loader)
    print(f"student accuracy {accuracy(student, x[test], y[test]):.4f}")


if __name__ == "__main__":
    main()
