import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)

data = load_breast_cancer()
X_train, X_val, y_train, y_val = train_test_split(
    data.data, data.target, test_size=0.25, random_state=7, stratify=data.target)

scaler = StandardScaler()
X_train = scaler.fit_transform(X_train)

X_train = torch.tensor(X_train, dtype=torch.float32)
y_train = torch.tensor(y_train, dtype=torch.float32)
X_val = torch.tensor(X_val, dtype=torch.float32)
y_val = torch.tensor(y_val, dtype=torch.float32)

model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
loss_fn = nn.BCEWithLogitsLoss()
batch_size = 32

for epoch in range(25):
    model.train()
    perm = torch.randperm(len(X_train))
    correct, running = 0, 0.0
    for i in range(0, len(perm), batch_size):
        idx = perm[i:i + batch_size]
        logits = model(X_train[idx]).squeeze(1)
        loss = loss_fn(logits, y_train[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * len(idx)
        correct += ((logits > 0).float() == y_train[idx]).sum().item()
    model.eval()
    with torch.no_grad():
        val_logits = model(X_val).squeeze(1)
        val_loss = loss_fn(val_logits, y_val).item()
        val_acc = ((val_logits > 0).float() == y_val).float().mean().item()
    print(f"epoch {epoch:2d}  train loss {running / len(perm):.4f} acc {correct / len(perm):.3f}  "
          f"val loss {val_loss:.4f} acc {val_acc:.3f}")
