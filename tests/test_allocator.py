"""``tune_allocator``: fewer page faults, more memory kept; and nothing where it does not apply."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import warnings

import pytest

from levelhead import allocator

GLIBC = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"

# Twenty tensors of 40 MB one after the other: the page faults of the last five, and the memory held at the end.
SCRIPT = """
import json, resource, sys
import torch, levelhead as lh
took = lh.tune_allocator() if sys.argv[1] == "tuned" else None
counts = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
for _ in range(20):
    torch.empty(10_000_000).fill_(1)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
held = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(json.dumps([took, counts[-1] - counts[-6], held]))
"""


def measure(how):
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not GLIBC or allocator._why_not() is not None, reason="glibc's malloc is not in use")
def test_page_faults_go_and_memory_stays():
    _, faults, held = measure("default")
    took, fewer, kept = measure("tuned")
    assert took is True
    tensor = 40_000_000
    assert faults > 5 * tensor / 65536  # pages of up to 64 KiB: every tensor is new memory
    assert fewer < faults / 10
    assert kept > held + tensor / 2  # at least one tensor's memory


@pytest.mark.parametrize(("system", "libc"), [("Darwin", ""), ("Windows", ""), ("Linux", "")])
def test_elsewhere_it_does_nothing_and_says_so_once(monkeypatch, system, libc):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    monkeypatch.setattr(allocator, "_said", set())
    with pytest.warns(UserWarning, match=f"did nothing: it is for Linux with glibc, and this is {system}$"):
        assert allocator.tune_allocator() is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert allocator.tune_allocator() is False


@pytest.mark.skipif(not GLIBC, reason="the check comes after that of the system")
def test_another_malloc_is_named(monkeypatch):
    monkeypatch.setattr(allocator, "_loaded", lambda: "7f00 r-xp 00:00 /usr/lib/libjemalloc.so.2\n")
    monkeypatch.setattr(allocator, "_said", set())
    with pytest.warns(UserWarning, match="jemalloc is in the place of glibc's malloc"):
        assert allocator.tune_allocator() is False
