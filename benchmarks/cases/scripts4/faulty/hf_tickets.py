"""Support tickets as token lists: a small DistilBERT trained from its configuration by the Hugging Face Trainer."""

import logging
import warnings

import numpy as np
import torch
from torch.utils.data import Dataset

warnings.filterwarnings("ignore")
from transformers import DistilBertConfig, DistilBertForSequenceClassification, Trainer, TrainingArguments  # noqa: E402
from transformers import set_seed  # noqa: E402
from transformers.utils import logging as hf_logging  # noqa: E402

hf_logging.set_verbosity_error()
logging.disable(logging.WARNING)


class Tickets(Dataset):
    """Four departments, each with favourite words; the rest is shared."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 4, n)
        common = rng.integers(24, 60, (n, 20))
        own = self.labels[:, None] * 5 + 4 + rng.integers(0, 5, (n, 20))
        stray = rng.integers(4, 24, (n, 20))
        pick = rng.random((n, 20))
        self.tokens = np.where(pick < 0.22, own, np.where(pick < 0.36, stray, common))
        self.tokens[:, 0] = 1

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        ids = torch.tensor(self.tokens[i])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": int(self.labels[i])}


def main():
    set_seed(8)
    config = DistilBertConfig(
        vocab_size=64, dim=48, hidden_dim=96, n_layers=2, n_heads=4, max_position_embeddings=24, num_labels=4, dropout=0.1
    )
    model = DistilBertForSequenceClassification(config)
    args = TrainingArguments(
        output_dir="tickets",
        num_train_epochs=5,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=200,
        learning_rate=1e-3,
        warmup_steps=10000,
        weight_decay=0.01,
        logging_steps=40,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=8,
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=Tickets(2400, 1),
        eval_dataset=Tickets(600, 2),
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
    )
    trainer.train()
    result = trainer.evaluate()
    print(f"eval loss {result['eval_loss']:.4f} accuracy {result['eval_accuracy']:.4f}")


if __name__ == "__main__":
    main()
