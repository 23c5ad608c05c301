"""Small batches: the running estimates of 2 rows at a time, and of 16 rows as one update.

Run: python examples/small_batches.py
"""

import torch

import levelhead as lh

torch.manual_seed(0)
data = torch.randn(1600, 64) * 3 + 1
data[700, 3] = torch.nan  # and one bad row

norms = {
    "as PyTorch": lh.nn.BatchNorm1d(64),
    "skip NaN": lh.nn.BatchNorm1d(64, on_nonfinite="skip"),
    "skip NaN, 8 batches an update": lh.nn.BatchNorm1d(64, on_nonfinite="skip", accumulate=8),
}
for name, norm in norms.items():
    for batch in data.split(2):
        norm(batch)
    errors = (norm.running_var - 9).abs().nan_to_num(torch.inf)
    bad = f", {int(errors.isinf().sum())} channels lost" if errors.isinf().any() else ""
    print(f"{name:30} mean error of the variance (truth: 9): {errors[errors.isfinite()].mean():.2f}{bad}")
print("skipped:", norms["skip NaN"].batches_skipped)

# A last batch of one row need not stop the training, and early evaluation need not be off by the initial 0 and 1.
norm = lh.nn.BatchNorm1d(64, statistics="debiased", batch_of_one="running")
norm(data[:64])
norm(data[:1])
print(f"after one batch: running_var {norm.running_var.mean():.2f}, PyTorch's would be {0.9 + 0.1 * 9:.2f}")
