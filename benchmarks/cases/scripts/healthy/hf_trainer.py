"""A tiny BERT with the Hugging Face Trainer: does the sentence hold more of the one word than of the other?"""

import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

set_seed(0)


class Sentences(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(3, 40, (count, 16), generator=generator)
        flips = torch.rand(count, 16, generator=generator) < 0.5
        self.tokens[flips] = torch.where(torch.rand(int(flips.sum()), generator=generator) < 0.5, 5, 7)
        self.labels = ((self.tokens == 5).sum(1) > (self.tokens == 7).sum(1)).long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.labels[i]}


config = BertConfig(
    vocab_size=40,
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    max_position_embeddings=16,
    num_labels=2,
)
model = BertForSequenceClassification(config)


def metrics(prediction):
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=4,
        learning_rate=2e-3,
        warmup_steps=10,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Sentences(1024, 0),
        eval_dataset=Sentences(256, 1),
        compute_metrics=metrics,
    )
    trainer.train()
