"""What scikit-learn asks of a transformer, by duck typing, so that levelhead does not need it."""

from __future__ import annotations

import inspect
import sys
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
    fit: Any
    inverse: Any
    __sklearn_is_fitted__: Any

    #: The same in both modes. On the class, for scikit-learn wants nothing but parameters on a new estimator.
    training = False

    #: scikit-learn's sign that ``set_output`` is heeded.
    _sklearn_auto_wrap_output_keys = frozenset({"transform"})

    def __init__(self) -> None:
        super().__init__()
        del self.__dict__["training"]

    def transform(self, X: Any) -> Any:
        """As ``forward``; an array or a table gives an array, or what ``set_output`` says."""
        out = self._of_any(X, self.forward)
        return out if isinstance(X, Tensor) else self._contained(out, X)

    def inverse_transform(self, X: Any) -> Any:
        """As ``inverse``; an array or a table gives an array."""
        return self._of_any(X, self.inverse)

    def set_output(self, *, transform: str | None = None) -> Self:
        """What ``transform`` makes of arrays and tables: a ``"pandas"`` or ``"polars"`` table, or the ``"default"``.

        None leaves it as it is. Without a choice, ``sklearn.set_config(transform_output=...)`` holds.

        Raises:
            ValueError: it is none of these.
        """
        if transform is not None:
            self._sklearn_output_config = {"transform": _check_output(transform)}
        return self

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """The names of the columns that ``transform`` gives, an array of texts.

        Args:
            input_features: the names of the columns; by default those of the table that was fitted, or x0, x1, ...

        Raises:
            ValueError: they are other names than those that were fitted, or not as many; or nothing was fitted.
        """
        import numpy as np

        self._check_fitted()
        names = self._names()
        if input_features is None:
            return np.array([f"x{i}" for i in range(self.n_features_in_)] if names is None else names, dtype=object)
        given = np.array(input_features, dtype=object)
        if names is not None and not np.array_equal(names, given):
            raise ValueError("input_features is not equal to feature_names_in_")
        if len(given) != self.n_features_in_:
            raise ValueError(
                "input_features should have length equal to number of features "
                f"({self.n_features_in_}), got {len(given)}"
            )
        return given

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
            from sklearn.utils.validation import validate_data
        except ImportError:
            array = np.asarray(X)
        else:
            if not first:
                self._check_fitted()
            floats = [np.float64, np.float32]
            array = validate_data(self, X, reset=first, dtype=floats, ensure_all_finite="allow-nan", allow_nd=True)
        with warnings.catch_warnings():  # nothing is written to it
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            return torch.from_numpy(array)

    def _check_fitted(self) -> None:
        """scikit-learn's own error, a ValueError too, where it is installed."""
        try:
            from sklearn.utils.validation import check_is_fitted
        except ImportError:
            if not self.__sklearn_is_fitted__():
                raise ValueError(
                    f"this {type(self).__name__} is not fitted yet; call fit or partial_fit first"
                ) from None
        else:
            check_is_fitted(self)

    def _contained(self, out: Any, X: Any) -> Any:
        """An array in the container that was asked for, with the names of its columns, and the index of a table."""
        sklearn = sys.modules.get("sklearn")
        everywhere = "default" if sklearn is None else sklearn.get_config()["transform_output"]
        kind = _check_output(vars(self).get("_sklearn_output_config", {}).get("transform", everywhere))
        if kind == "default":
            return out
        names = list(self.get_feature_names_out())
        if out.ndim != 2 or out.shape[1] != len(names):
            raise ValueError(
                f"a table has (rows, features), and these are of shape {out.shape}; use set_output('default')"
            )
        if kind == "polars":
            import polars

            return polars.DataFrame(out, schema=names, orient="row")
        import pandas  # type: ignore[import-untyped]

        return pandas.DataFrame(out, index=X.index if isinstance(X, pandas.DataFrame) else None, columns=names)

    def _of_any(self, X: Any, work: Callable[[Tensor], Tensor]) -> Any:
        return work(X) if isinstance(X, Tensor) else work(self._read(X, first=False)).numpy()

    def _set_names(self, names: Iterable[str] | None) -> None:
        import numpy as np

        if names is not None:
            self.feature_names_in_ = np.asarray(list(names), dtype=object)

    def _names(self) -> Any:
        return vars(self).get("feature_names_in_")


def _check_output(kind: str) -> str:
    if kind not in ("default", "pandas", "polars"):
        raise ValueError(f"output config must be in ['default', 'pandas', 'polars'], got {kind}")
    return kind
