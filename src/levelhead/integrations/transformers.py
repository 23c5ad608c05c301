"""A callback for Hugging Face's Trainer: ``Trainer(..., callbacks=[Watch()])``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from levelhead.integrations.watching import Watching

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this callback needs transformers: pip install transformers", name=error.name) from error


class Watch(Watching, TrainerCallback):
    """Watches the training of a model: ``.examination`` and ``.findings`` afterwards.

    Args:
        every: measure every so many steps.
        tell: whether to warn of findings while the loop runs.
        html: where to write the page of the examination at the end, if anywhere.
    """

    def __init__(self, *, every: int = 16, tell: bool = True, html: Path | str | None = None) -> None:
        Watching.__init__(self, every=every, tell=tell, html=html)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the watch."""
        self._open(kwargs["model"], [kwargs["optimizer"]])

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the validation loss."""
        value = kwargs.get("metrics", {}).get("eval_loss")
        if value is not None and self.watch is not None and self.watch.open:
            self.watch.validation(float(value))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the watch."""
        self._close()
