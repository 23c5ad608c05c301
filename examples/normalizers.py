"""levelhead's layers in the place of PyTorch's: the same state_dict, the same results, more digits.

Run: python examples/normalizers.py
"""

import torch

import levelhead as lh

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
x = torch.randn(32, 8)
before = model(x)

lh.convert(model)  # in place; optimizers and hooks keep working
print(model)
assert torch.allclose(model(x), before)

# activation(norm(x) + residual) in one module
block = lh.nn.BatchNorm2d(4, activation="relu")
image, shortcut = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
print("fused block:", tuple(block(image, shortcut).shape))

# A large offset: how far is each from a float64 calculation?
x = 1e4 + torch.randn(1000, 256)
truth = torch.nn.functional.batch_norm(x.double(), None, None, training=True)
for name, norm in (("torch.nn", torch.nn.BatchNorm1d(256)), ("levelhead", lh.nn.BatchNorm1d(256))):
    print(f"largest error at a mean of 1e4, {name:9}: {(norm(x) - truth).abs().max():.1e}")
