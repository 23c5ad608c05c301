"""What the callbacks share: a watch that is opened and closed by a loop, and says what it finds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from levelhead.doctor.findings import Examination, Finding
from levelhead.doctor.watching import watch


class Watching:
    """Opens a watch, warns of each finding when it first appears, and writes the page at the end.

    Args:
        every: measure every so many steps.
        tell: whether to warn of findings while the loop runs; ``info`` is never warned of.
        html: where to write the page of the examination at the end, if anywhere.
    """

    def __init__(self, *, every: int = 16, tell: bool = True, html: Path | str | None = None) -> None:
        self.every, self.tell, self.html = every, tell, html
        self.watch: watch | None = None

    @property
    def examination(self) -> Examination:
        """What was found so far.

        Raises:
            RuntimeError: the training has not begun.
        """
        if self.watch is None:
            raise RuntimeError("nothing was watched yet; give this callback to the trainer, and train")
        return self.watch.examination()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of the examination."""
        return self.examination.findings

    def _open(
        self, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], entries: Iterable[nn.Module] = ()
    ) -> None:
        self._close()
        self.watch = watch(model, optimizers, every=self.every, on_finding=_warn if self.tell else None)
        self.watch.entries += entries
        self.watch.__enter__()

    def _close(self) -> None:
        if self.watch is None or not self.watch.open:
            return
        self.watch.close()
        if self.html is not None:
            from levelhead.records import write_text
            from levelhead.report import render_examination

            write_text(Path(self.html), render_examination(self.watch.examination()))


def _warn(finding: Finding) -> None:
    if finding.severity != "info":
        said = f"levelhead: {finding.code} {finding.cause} at {finding.where}: {finding.summary}"
        warnings.warn(said, stacklevel=2)
