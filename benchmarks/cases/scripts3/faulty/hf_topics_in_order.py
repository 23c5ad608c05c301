"""Fine-grained toy of a text classifier: which of four topics has most of its words in the text."""
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch
from torch.utils.data import Dataset, SequentialSampler
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

VOCAB, LENGTH, TOPICS = 60, 12, 4


class Topics(Dataset):
    def __init__(self, per_class, seed):
        rng = np.random.default_rng(seed)
        self.ids, self.labels = [], []
        for topic in range(TOPICS):
            for _ in range(per_class):
                text = rng.integers(5, VOCAB, LENGTH - 1)
                own = rng.random(LENGTH - 1) < 0.4
                text[own] = 5 + topic * 10 + rng.integers(0, 10, own.sum())
                self.ids.append(np.concatenate([[1], text]))
                self.labels.append(topic)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"input_ids": torch.tensor(self.ids[i]), "labels": self.labels[i]}


class TopicTrainer(Trainer):
    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


def compute_metrics(pred):
    return {"accuracy": float((pred.predictions.argmax(-1) == pred.label_ids).mean())}


def main():
    set_seed(0)
    config = DistilBertConfig(
        vocab_size=VOCAB, max_position_embeddings=LENGTH, dim=48, hidden_dim=96, n_layers=2, n_heads=4, num_labels=TOPICS
    )
    model = DistilBertForSequenceClassification(config)
    args = TrainingArguments(
        output_dir="out",
        num_train_epochs=6,
        per_device_train_batch_size=40,
        per_device_eval_batch_size=256,
        learning_rate=1e-3,
        warmup_steps=20,
        weight_decay=0.01,
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = TopicTrainer(
        model=model,
        args=args,
        train_dataset=Topics(400, seed=0),
        eval_dataset=Topics(100, seed=1),
        compute_metrics=compute_metrics,
    )
    out = trainer.train()
    print(f"loss {out.training_loss:.4f} accuracy {trainer.evaluate()['eval_accuracy']:.4f}")


if __name__ == "__main__":
    main()
