"""A small BERT-style classifier from a fresh configuration, trained with the Hugging Face Trainer."""

import logging
import warnings

import torch
from torch.utils.data import Dataset

warnings.filterwarnings("ignore")
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed  # noqa: E402
from transformers.utils import logging as hf_logging  # noqa: E402

hf_logging.set_verbosity_error()
logging.disable(logging.WARNING)


class Openings(Dataset):
    """Sequences of moves; the label is which of the moves 5, 6 and 7 comes first."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.rows = []
        for _ in range(n):
            length = int(torch.randint(8, 16, (1,), generator=g))
            moves = torch.randint(8, 30, (length,), generator=g)
            spots = torch.randperm(length, generator=g)[:3]
            moves[spots] = torch.tensor([5, 6, 7])
            ids = torch.zeros(17, dtype=torch.long)
            ids[0], ids[1 : length + 1] = 1, moves
            self.rows.append({"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": int(spots.argmin())})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def metrics(pred):
    return {"accuracy": float((pred.predictions.argmax(1) == pred.label_ids).mean())}


if __name__ == "__main__":
    set_seed(3)
    config = BertConfig(
        vocab_size=32, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=20, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    args = TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=32,
        per_device_eval_batch_size=200,
        num_train_epochs=6,
        learning_rate=2e-3,
        warmup_steps=40,
        lr_scheduler_type="linear",
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    model = BertForSequenceClassification(config)
    trainer = Trainer(model=model, args=args, train_dataset=Openings(2500, 1), eval_dataset=Openings(600, 2), compute_metrics=metrics)
    trainer.train()
    result = trainer.evaluate()
    print(f"eval loss {result['eval_loss']:.4f} accuracy {result['eval_accuracy']:.4f}")
