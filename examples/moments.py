"""The true mean and variance of data that comes in pieces, where the short formula loses every digit.

Run: python examples/moments.py
"""

import torch

import levelhead as lh

torch.manual_seed(0)
x = 1e4 + torch.randn(100_000, 3)  # a mean that is large beside the spread

pieces = [lh.Moments.of(piece, dim=0) for piece in x.split([10, 90_000, 9_990])]
merged = sum(pieces)  # in any order: the same population

truth = x.double().var(0, correction=0)
short = (x * x).mean(0) - x.mean(0) ** 2  # E[x²] - mean², in float32

print("variance, float64:       ", [round(v, 6) for v in truth.tolist()])
print("merged Moments:          ", [round(v, 6) for v in merged.var().tolist()])
print("E[x²] - mean², float32:  ", short.tolist())

mask = torch.rand(100_000, 3) > 0.5  # a count a feature; what is behind the mask may be anything
masked = lh.Moments.of(x.masked_fill(~mask, torch.nan), dim=0, mask=mask)
print("counted under a mask:    ", masked.count.tolist())
assert torch.allclose(merged.var(), truth, rtol=1e-10)
