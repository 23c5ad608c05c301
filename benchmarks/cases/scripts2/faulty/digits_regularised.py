import torch, torch.nn as nn, torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.set_num_threads(1)
torch.manual_seed(0)
BATCH, EPOCHS = 64, 25

X, y = load_digits(return_X_y=True)
X = X / 16
Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.25, random_state=42)
Xtr, Xte = torch.FloatTensor(Xtr), torch.FloatTensor(Xte)
ytr, yte = torch.LongTensor(ytr), torch.LongTensor(yte)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 100)
        self.fc2 = nn.Linear(100, 100)
        self.fc3 = nn.Linear(100, 10)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        x = self.drop(F.relu(self.fc1(x)))
        x = self.drop(F.relu(self.fc2(x)))
        return self.fc3(x)

net = Net()
opt = torch.optim.Adam(net.parameters(), lr=0.001, weight_decay=0.3)

def check():
    net.eval()
    with torch.no_grad():
        out = net(Xte)
    net.train()
    return F.cross_entropy(out, yte).item(), (out.max(1)[1] == yte).float().mean().item()

for ep in range(EPOCHS):
    perm = torch.randperm(len(Xtr))
    for k in range(0, len(Xtr), BATCH):
        sel = perm[k:k + BATCH]
        loss = F.cross_entropy(net(Xtr[sel]), ytr[sel])
        opt.zero_grad(); loss.backward(); opt.step()
    vl, va = check()
    print('ep', ep, 'train', round(loss.item(), 4), 'val', round(vl, 4), 'acc', round(va, 4))
