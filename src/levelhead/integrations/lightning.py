"""A callback for Lightning's Trainer: ``Trainer(callbacks=[Watch()])``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from levelhead.integrations.watching import Watching

try:
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError:
    try:
        from pytorch_lightning.callbacks import Callback
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this callback needs Lightning: pip install lightning", name=error.name) from error


class Watch(Watching, Callback):
    """Watches the training of a LightningModule: ``.examination`` and ``.findings`` afterwards.

    Args:
        validation: the logged metric (lower is better) in which overfitting is to be seen.
        every: measure every so many steps.
        tell: whether to warn of findings while the loop runs.
        html: where to write the page of the examination at the end, if anywhere.
    """

    def __init__(
        self,
        validation: str = "val_loss",
        *,
        every: int = 16,
        tell: bool = True,
        html: Path | str | None = None,
    ) -> None:
        Watching.__init__(self, every=every, tell=tell, html=html)
        self.validation = validation

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the watch."""
        # A training step may call parts of the module only: what it gives to the first of them are the inputs.
        self._open(pl_module, trainer.optimizers, entries=pl_module.children())

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Measure the gradients: Lightning computes them in a closure, within the optimizer's step."""
        if self.watch is not None:
            self.watch.before_step()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell the validation loss."""
        value = trainer.callback_metrics.get(self.validation)
        if value is not None and self.watch is not None and self.watch.open and not trainer.sanity_checking:
            self.watch.validation(float(value))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the watch."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the watch."""
        self._close()
