"""Topics of short texts, on word vectors that are given and stay frozen.

Word vectors made beforehand place the words of a topic near each other; texts of varying length
are padded with word 0, whose vector is zero. The embedding is frozen on purpose (rare words would
drift otherwise) and left out of the optimizer; a bidirectional GRU and a head learn.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.85
TOPICS, WORDS, LENGTH = 6, 600, 12


class TopicReader(nn.Module):
    def __init__(self, vectors):
        super().__init__()
        self.vectors = nn.Embedding.from_pretrained(vectors, freeze=True, padding_idx=0)
        self.gru = nn.GRU(vectors.shape[1], 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, TOPICS)

    def forward(self, x):
        present = (x > 0).float()[:, :, None]
        states, _ = self.gru(self.vectors(x))
        return self.head((states * present).sum(dim=1) / present.sum(dim=1))


def texts(rows, topic_of):
    y = torch.randint(0, TOPICS, (rows,))
    x = torch.randint(1, WORDS, (rows, LENGTH))
    members = [torch.nonzero(topic_of == topic).flatten() for topic in range(TOPICS)]
    own = torch.stack([members[int(topic)][torch.randint(0, len(members[int(topic)]), (LENGTH,))] for topic in y])
    x = torch.where(torch.rand(rows, LENGTH) < 0.45, own, x)
    lengths = torch.randint(7, LENGTH + 1, (rows, 1))
    return TensorDataset(torch.where(torch.arange(LENGTH) < lengths, x, 0), y)


def healthy(seed):
    torch.manual_seed(seed)
    topic_of = torch.randint(0, TOPICS, (WORDS,))
    topic_of[0] = -1
    vectors = torch.randn(TOPICS, 16)[topic_of] + 0.4 * torch.randn(WORDS, 16)
    vectors[0] = 0
    model = TopicReader(vectors)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(trained, lr=4e-3),
        train=DataLoader(texts(1600, topic_of), batch_size=40, shuffle=True),
        val=DataLoader(texts(400, topic_of), batch_size=400),
        epochs=4,
        score=accuracy,
    )
