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
    """Frozen linear and convolution layers whose weights are spread as their own initialization spreads them.

    PyTorch draws uniformly within 1 / sqrt(inputs); training carries some of the weights beyond.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, LINEAR) and not module.weight.requires_grad and module.weight.numel() >= ENOUGH:
            weight = module.weight.detach().double() * math.sqrt(module.weight[0].numel())
            if 0.9 < float(weight.abs().max()) <= 1 + 1e-4 and abs(float(weight.std()) * math.sqrt(3) - 1) < 0.1:
                found.append(name)
    return found
