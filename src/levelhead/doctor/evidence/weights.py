"""The scale of weights: matrices too large for what they take in, and layers that are as PyTorch draws them."""

from __future__ import annotations

import math

from torch import Tensor, nn

from levelhead.doctor.evidence.structure import LINEAR

#: He et al. 2015: sqrt(2 / inputs) keeps a ReLU's signal; torch's own default is sqrt(1 / (3 inputs)).
KEEPS = math.sqrt(2)
#: Beyond this many times the scale, or under a tenth of it, weights are suspected.
FAR = 3
#: Embeddings are the next layer's inputs, whose deviation is to be about 1 (LeCun et al. 1998, section 4.3).
LARGE = 5.0
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
#: Weights of a layer from which on it can be told how they were drawn.
ENOUGH = 256


def oversized(model: nn.Module) -> dict[str, tuple[Tensor, float]]:
    """Matrices, by path, and how many times the largest usual scale they have, where that is more than once.

    Of embeddings, recurrent layers, and modules of the program's own; of these the smaller side counts as the inputs.
    """
    found: dict[str, tuple[Tensor, float]] = {}
    for path, weight in model.named_parameters():
        module = model.get_submodule(path.rpartition(".")[0])
        own = not type(module).__module__.startswith("torch.")
        if weight.ndim != 2 or not (own or isinstance(module, (nn.Embedding, nn.EmbeddingBag, *RECURRENT))):
            continue
        size = float(weight.detach().float().square().mean().sqrt())
        table = isinstance(module, nn.Embedding | nn.EmbeddingBag)
        inputs = min(weight.shape) if own else weight.shape[1]
        far = size / LARGE if table else size * math.sqrt(inputs) / (FAR * KEEPS)
        if far > 1:
            found[path] = weight, far
    return found


def frozen_as_drawn(model: nn.Module) -> list[str]:
    """Frozen linear and convolution layers whose weights are as their own initialization draws them."""
    frozen = [(n, m) for n, m in model.named_modules() if isinstance(m, LINEAR) and not m.weight.requires_grad]
    return [name for name, module in frozen if as_drawn(module.weight)]


def as_drawn(weight: Tensor) -> bool:
    """Whether weights lie uniformly within 1 / sqrt(inputs), as PyTorch draws them; training carries some beyond."""
    if weight.ndim < 2 or weight.numel() < ENOUGH:
        return False
    scaled = weight.detach().double() * math.sqrt(weight[0].numel())
    return 0.9 < float(scaled.abs().max()) <= 1 + 1e-4 and abs(float(scaled.std()) * math.sqrt(3) - 1) < 0.1
