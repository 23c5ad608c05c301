"""What scikit-learn asks of a transformer, by duck typing, so that levelhead does not need it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn


class Transformer(nn.Module):
    """A mixin for modules with ``forward``, ``inverse``, ``partial_fit`` and a state that is there after fitting.

    Attributes:
        n_features_in_: how many features were seen; there after fitting, as in scikit-learn.
        feature_names_in_: the names of the columns, an array of texts; there after fitting to a table.
    """

    n_features_in_: int
    feature_names_in_: Any

    #: The same in both modes. On the class, for scikit-learn wants nothing but parameters on a new estimator.
    training = False

    def __init__(self) -> None:
        super().__init__()
        del self.__dict__["training"]

    def fit(self, X: Any, y: object = None, *, mask: Tensor | None = None) -> Self:
        """Forget what was seen, and learn from ``X``; see ``partial_fit``."""
        raise NotImplementedError

    def inverse(self, y: Tensor) -> Tensor:
        """The values that ``forward`` made ``y`` of."""
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        raise NotImplementedError

    def transform(self, X: Any) -> Any:
        """As ``forward``; an array or a table gives an array."""
        return self._of_any(X, self.forward)

    def inverse_transform(self, X: Any) -> Any:
        """As ``inverse``; an array or a table gives an array."""
        return self._of_any(X, self.inverse)

    def fit_transform(self, X: Any, y: object = None, *, mask: Tensor | None = None) -> Any:
        """``fit`` and ``transform``."""
        return self.fit(X, y, mask=mask).transform(X)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Exchange arguments of the constructor.

        Raises:
            ValueError: there is no such argument.
        """
        for name, value in params.items():
            if name not in (known := self.get_params()):
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(allow_nan=True),
        )

    def _read(self, X: Any, *, first: bool) -> Tensor:
        """An array or a table as a tensor, with scikit-learn's checks where it is installed."""
        import numpy as np

        try:
            from sklearn.utils.validation import check_is_fitted, validate_data
        except ImportError:
            array = np.asarray(X)
        else:
            if not first:
                check_is_fitted(self)
            floats = [np.float64, np.float32]
            array = validate_data(self, X, reset=first, dtype=floats, ensure_all_finite="allow-nan", allow_nd=True)
        with warnings.catch_warnings():  # nothing is written to it
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            return torch.from_numpy(array)

    def _of_any(self, X: Any, work: Callable[[Tensor], Tensor]) -> Any:
        return work(X) if isinstance(X, Tensor) else work(self._read(X, first=False)).numpy()

    def _set_names(self, names: Iterable[str] | None) -> None:
        import numpy as np

        if names is not None:
            self.feature_names_in_ = np.asarray(list(names), dtype=object)

    def _names(self) -> Any:
        return vars(self).get("feature_names_in_")
