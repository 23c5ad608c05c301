"""Streaming Moments and Standardizer.partial_fit against scikit-learn's StandardScaler, and what the memory can give.

The same blocks in turn, float32 (rows, features), as a reader hands them over; every result is checked against float64
NumPy before anything is timed. A rate is bytes of input by the median second; a ratio is within one run.

    python benchmarks/stats.py [--threads 1] [--repeats 7]
"""

import argparse
import os
import statistics
import time

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from levelhead import Moments, Standardizer

ROWS_IN_ALL, BLOCK_BYTES = 2**23, 2**22


def ours(blocks):
    return sum(Moments.of(torch.from_numpy(block), 0) for block in blocks)


def standardizer(blocks):
    """From arrays, with the checks of scikit-learn that StandardScaler makes too."""
    fitted = Standardizer()
    for block in blocks:
        fitted.partial_fit(block)
    return fitted


def theirs(blocks):
    scaler = StandardScaler()
    for block in blocks:
        scaler.partial_fit(block)
    return scaler


def read(blocks):
    """The floor: every byte is read once and summed, in the type that it has, by PyTorch."""
    return [torch.from_numpy(block).sum() for block in blocks]


def copy(blocks):
    target = np.empty_like(blocks[0])
    for block in blocks:
        np.copyto(target[: len(block)], block)


def median_seconds(work, blocks, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work(blocks)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def errors(blocks):
    """The largest relative error of the deviation, ours and theirs."""
    truth = np.concatenate(blocks).astype(np.float64).std(0)
    scaler = theirs(blocks)
    mine = float(np.abs(ours(blocks).std().numpy() / truth - 1).max())
    other = float(np.abs(np.sqrt(scaler.var_) / truth - 1).max())
    assert mine < 1e-9, f"our deviation is off by {mine:.1e}: nothing to time"
    return mine, other


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"torch {torch.__version__}, {arguments.threads} thread(s) of {os.cpu_count()} cores, float32, mean 1e4, std 1"
    )
    print("  features  Moments  Standardizer  StandardScaler    sum   copy  (GB/s)  ratios  shares of sum  errors")
    with threadpool_limits(arguments.threads):
        for features in (8, 64, 512, 4096):
            rows = ROWS_IN_ALL // features
            x = (np.random.default_rng(0).standard_normal((rows, features)) + 1e4).astype(np.float32)
            blocks = np.array_split(x, x.nbytes // BLOCK_BYTES)
            mine, other = errors(blocks)
            rates = [
                x.nbytes / median_seconds(work, blocks, arguments.repeats) / 1e9
                for work in (ours, standardizer, theirs, read, copy)
            ]
            print(
                f"{features:10} {rates[0]:8.2f} {rates[1]:13.2f} {rates[2]:15.2f} {rates[3]:6.1f} {rates[4]:6.1f} "
                f"{rates[0] / rates[2]:10.1f} {rates[1] / rates[2]:.1f} {rates[0] / rates[3]:9.0%} "
                f"{rates[1] / rates[3]:.0%}  {mine:.0e} / {other:.0e}"
            )


if __name__ == "__main__":
    main()
