"""The callbacks in the loops of Lightning and of Hugging Face, and what they leave behind."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # both warn at import of what they import themselves
    pl = pytest.importorskip("lightning.pytorch", reason="needs Lightning")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

    from levelhead.integrations import lightning as for_lightning
    from levelhead.integrations import transformers as for_transformers

# The trainers warn of few workers, of short epochs and of their own deprecations; findings are warned of by us.
pytestmark = pytest.mark.filterwarnings("ignore", "error:levelhead:UserWarning")


def rows(scale=1.0):
    torch.manual_seed(0)
    x = torch.randn(128, 8)
    return TensorDataset(scale * x, (x.sum(1) > 0).long())


class Module(pl.LightningModule):
    """Calls a part of itself, as most modules do: never its own forward."""

    def __init__(self, rate, frozen=False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
        self.rate, self.frozen = rate, frozen

    def training_step(self, batch, _):
        if self.frozen:
            self.eval()
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def fit(module, callback, folder):
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, DataLoader(rows(), 16, shuffle=True), DataLoader(rows(), 64))


def test_lightning_is_watched_and_found_healthy(tmp_path):
    callback, module = for_lightning.Watch(html=tmp_path / "watch.html"), Module(0.1)
    fit(module, callback, tmp_path)
    history = callback.watch.history
    assert callback.examination.healthy, callback.findings
    assert history.steps == 40
    assert len(history.losses) == 40
    assert len(history.validation) == 5
    assert history.cleared == 7  # after each measured step
    assert history.uncleared == 0
    assert all(m.weights and m.batch.rows == 16 for m in history.measured)
    assert all(m.move < -0.9 for m in history.measured)  # plain SGD moves along the gradient
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert (tmp_path / "watch.html").stat().st_size > 1e6


def test_lightning_warns_while_it_runs(tmp_path):
    callback = for_lightning.Watch()
    with pytest.warns(UserWarning, match="levelhead: LH406 eval-mode-in-training"):
        fit(Module(0.1, frozen=True), callback, tmp_path)
    assert callback.findings[0].cause == "eval-mode-in-training"


class Classifier(nn.Module):
    """Returns its own loss, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def train(folder, rate, callback):
    model = Classifier()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=40,
        learning_rate=rate,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    data = [{"x": x, "labels": y} for x, y in rows()]
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=data, eval_dataset=data, callbacks=[callback]
    )
    trainer.train()
    return model


def test_transformers_is_watched_and_found_healthy(tmp_path):
    callback = for_transformers.Watch()
    model = train(tmp_path, 1e-2, callback)
    history = callback.watch.history
    assert callback.examination.healthy, callback.findings
    assert history.steps == 40
    assert len(history.validation) == 4
    assert history.uncleared == 0
    assert history.cleared == 7  # after each measured step
    assert history.losses.values[-1] < history.losses.values[0]
    assert all(m.weights and m.batch is not None for m in history.measured)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_transformers_with_a_rate_that_is_too_high(tmp_path):
    callback = for_transformers.Watch(tell=False)
    train(tmp_path, 300.0, callback)
    assert callback.findings[0].cause == "learning-rate-too-high"


def test_asked_too_early():
    with pytest.raises(RuntimeError, match="give this callback to the trainer"):
        _ = for_transformers.Watch().findings
