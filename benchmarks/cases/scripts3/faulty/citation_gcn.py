"""Graph convolutions without a graph library: communities of a random graph, 5 % of the nodes have labels."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def make_graph(n=600, k=4, p_in=0.03, p_out=0.006, d=24, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k, n)
    prob = np.where(label[:, None] == label[None], p_in, p_out)
    upper = np.triu(rng.random((n, n)) < prob, 1)
    adj = (upper | upper.T).astype(np.float32)
    centers = rng.standard_normal((k, d))
    feats = 0.35 * centers[label] + rng.standard_normal((n, d))
    return torch.tensor(adj), torch.tensor(feats, dtype=torch.float32), torch.tensor(label)


def normalize(adj):
    adj = adj + torch.eye(len(adj))
    d = adj.sum(1).rsqrt()
    return d[:, None] * adj * d[None, :]


class GraphConv(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.lin = nn.Linear(cin, cout)

    def forward(self, a, x):
        return a @ self.lin(x)


class GCN(nn.Module):
    def __init__(self, cin, hidden, classes, p=0.6):
        super().__init__()
        self.conv1 = GraphConv(cin, hidden)
        self.conv2 = GraphConv(hidden, hidden)
        self.conv3 = GraphConv(hidden, classes)
        self.p = p

    def forward(self, a, x):
        x = F.relu(self.conv1(a, x))
        x = F.dropout(x, self.p)
        x = F.relu(self.conv2(a, x))
        x = F.dropout(x, self.p)
        return self.conv3(a, x)


torch.manual_seed(0)
adj, feats, label = make_graph()
a_hat = normalize(adj)
order = torch.randperm(len(label))
train, val = order[:120], order[120:]
model = GCN(feats.shape[1], 32, 4)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
for epoch in range(1, 201):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(a_hat, feats)[train], label[train])
    loss.backward()
    optimizer.step()
    if epoch % 40 == 0:
        model.eval()
        with torch.no_grad():
            pred = model(a_hat, feats).argmax(1)
        acc = (pred[val] == label[val]).float().mean().item()
        print(f"epoch {epoch} loss {loss.item():.4f} val acc {acc:.4f}")
