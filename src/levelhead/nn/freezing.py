"""Normalization that stays with its running estimates while the rest of a model trains."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

Model = TypeVar("Model", bound=nn.Module)

_FROZEN = "frozen"


class Freezable(nn.Module):
    """A mixin for layers with running estimates: once frozen, ``train()`` leaves them in evaluation.

    That is kept in the metadata of the state_dict, beside the version that PyTorch keeps there, so that the keys are
    PyTorch's: ``torch.save`` keeps it, safetensors drops it.
    """

    frozen: bool = False

    def freeze(self) -> Self:
        """Normalize by the running estimates, and leave them as they are, until ``unfreeze``."""
        self.frozen = True
        return self.eval()

    def unfreeze(self) -> Self:
        """Let ``train()`` work again; the layer itself stays in evaluation until it is called."""
        _release(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """As ``torch.nn.Module.train``; to no effect where the layer is frozen."""
        return super().train(mode and not self.frozen)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.frozen and hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {})[_FROZEN] = True

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)
        if local_metadata.get(_FROZEN):
            self.freeze()


def freeze_norm(model: Model) -> Model:
    """Keep every layer with running estimates in evaluation, whatever ``train()`` is called with, in place.

    Batch norms and those instance norms that track statistics, levelhead's, PyTorch's and subclasses of them, then
    normalize by their running estimates and leave them as they are, through ``train()``, ``copy.deepcopy`` and
    pickling; ``weight`` and ``bias`` still train, unless ``requires_grad_(False)`` says otherwise. The state_dict has
    the same keys; its metadata says what was frozen, and loading it into levelhead's layers (``lh.convert``) freezes
    them. Loading any state_dict into a frozen layer leaves it frozen.

    Args:
        model: any module; one that is itself such a layer is frozen too.

    Returns:
        The same object; ``unfreeze_norm`` takes it back.

    Raises:
        ValueError: the model has no such layer.

    Example:
        >>> model = freeze_norm(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))).train()
        >>> bool(model(torch.zeros(1, 2)).isfinite().all())  # a batch of one is no error
        True
    """
    layers = [module for module in model.modules() if is_tracking(module)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no normalization layer with running estimates to freeze")
    for module in layers:
        if isinstance(module, Freezable):
            module.freeze()
        elif not is_frozen(module):
            setattr(module, _FROZEN, True)
            module.register_forward_pre_hook(_stay)  # a hook, for the class is not ours
            module.register_state_dict_post_hook(_keep)
            module.eval()
    return model


def unfreeze_norm(model: Model) -> Model:
    """Undo ``freeze_norm``, in place: each layer takes the mode of the module that holds it."""
    for parent in model.modules():
        for child in parent.children():
            if is_frozen(child):
                _release(child)
                child.train(parent.training)
    _release(model)
    return model


def is_frozen(module: nn.Module) -> bool:
    """Whether ``freeze_norm`` was called on the layer."""
    return bool(vars(module).get(_FROZEN))


def is_tracking(module: nn.Module) -> bool:
    """Whether the layer normalizes by running estimates in evaluation."""
    return isinstance(module, _NormBase) and module.track_running_stats and module.running_mean is not None


def _release(module: nn.Module) -> None:
    vars(module).pop(_FROZEN, None)
    for hooks, own in ((module._forward_pre_hooks, _stay), (module._state_dict_hooks, _keep)):
        for key in [key for key, hook in hooks.items() if hook is own]:
            del hooks[key]


def _stay(module: nn.Module, args: Any) -> None:
    module.training = False


def _keep(module: nn.Module, state_dict: Any, prefix: str, local_metadata: dict[str, Any]) -> None:
    local_metadata[_FROZEN] = True
