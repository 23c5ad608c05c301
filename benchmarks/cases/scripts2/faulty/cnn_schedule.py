import torch
import torch.nn as nn
import torch.optim as optim
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
torch.set_num_threads(1)

raw = load_digits()
images = torch.tensor(raw.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(raw.target)
shuffle = torch.randperm(len(labels))
images, labels = images[shuffle], labels[shuffle]
train_loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=32, shuffle=True)
val_images, val_labels = images[1400:], labels[1400:]

net = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(64, 10),
)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)


def validate():
    net.eval()
    with torch.no_grad():
        out = net(val_images)
        loss = criterion(out, val_labels).item()
        acc = (out.argmax(1) == val_labels).float().mean().item()
    net.train()
    return loss, acc


best = 0.0
for epoch in range(12):
    running_loss = 0.0
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        loss = criterion(net(inputs), targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running_loss += loss.item()
    val_loss, val_acc = validate()
    best = max(best, val_acc)
    print(f"[{epoch + 1}] loss: {running_loss / len(train_loader):.3f} val loss: {val_loss:.3f} val acc: {val_acc:.3f}")
print(f"Finished, best val acc {best:.3f}")
