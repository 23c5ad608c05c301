"""Padded sequences: without the lengths, batch norm learns the padding.

Run: python examples/padded_sequences.py
"""

import torch

import levelhead as lh

torch.manual_seed(0)
lengths = torch.randint(5, 50, (32,))
rows = torch.arange(50) < lengths[:, None]  # (N, L), True where there is data
x = (torch.randn(32, 8, 50) * 2 + 5) * rows[:, None]  # (N, C, L), zeros behind the ends

blind, aware = lh.nn.BatchNorm1d(8, momentum=1.0), lh.nn.BatchNorm1d(8, momentum=1.0)
blind(x)
y = aware(x, lengths=lengths)
print("mean and variance of the data: 5 and 4")
for name, norm in (("padding counted", blind), ("with lengths", aware)):
    print(f"{name:16} {norm.running_mean.mean():5.2f} {norm.running_var.mean():6.2f}")
assert abs(aware.running_mean.mean() - 5) < 0.2

# The same as on the data alone, and what stands behind the ends does not matter, be it NaN.
alone = torch.nn.BatchNorm1d(8)(x.transpose(1, 2)[rows])
assert torch.allclose(y.transpose(1, 2)[rows], alone, atol=1e-5)
assert torch.equal(aware(x.where(rows[:, None], torch.nan), lengths=lengths), y)

# Layer norm of nested tensors: no padding at all.
nested = torch.nested.nested_tensor_from_jagged(
    torch.randn(int(lengths.sum()), 8), torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
)
print("nested:", lh.nn.LayerNorm(8, activation="gelu")(nested).shape)
