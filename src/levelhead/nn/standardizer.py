"""Standardizing and whitening with statistics that merge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

import torch
import torch.distributed as dist
from torch import Tensor

from levelhead.covariance import Comoments
from levelhead.moments import Moments
from levelhead.nn import standardizer_files
from levelhead.nn.estimator import Transformer

_STATE = ("n_samples_seen_", "mean_", "m2_")
_DERIVED = ("_center", "_forth", "_back")


class Standardizer(Transformer):
    r"""Subtracts the mean and divides by the standard deviation of each feature, or whitens all of them.

    .. math:: y = \frac{x - \mu}{\sigma}, \quad\text{or}\quad y = W (x - \mu), \; W \Sigma W^T = I

    A module, so that it can be the first layer of a network, be saved with it and be folded into what follows
    (``lh.fold``); and a scikit-learn transformer, for arrays and tables. μ and σ² are those of the population that
    was seen, Σ(x - μ)²/n, in float64, merged from batches of any size; the result has the type of the input. float32
    inputs far from 0 lose no digits: μ is subtracted in two parts.

    Args:
        dim: the dimension of the features: 1 for (rows, features) and for (rows, channels, height, width), where the
            statistics are per channel; -1 for (rows, positions, features).
        whiten: None; ``"pca"``: W = Λ^-½ Uᵀ, the components in the order of their variance, each with the sign that
            makes its largest entry positive; ``"zca"``: W = U Λ^-½ Uᵀ, as near to x - μ as whitened values can be.

    NaN is a missing value: it counts nowhere and comes out as NaN. With ``whiten`` a row counts where it is complete.
    Of a constant feature the mean is subtracted, and its scale is 1, as in scikit-learn; one that was never seen is
    left as it is; so is, by ``whiten``, the length along a direction without variance.

    Attributes (after fitting; tensors, float64):
        mean_, var_, scale_: of shape (features,); ``scale_`` is 1 for a constant feature.
        constant_: which features were seen and have no spread, (features,), boolean; ``repr`` names them.
        n_samples_seen_: how many values each feature had, (features,); with ``whiten`` how many complete rows, ().
        m2_: the sums of squared deviations, (features,), or with ``whiten`` of products, (features, features).

    Source: Kessy, Lewin & Strimmer 2018, "Optimal whitening and decorrelation", table 1 (ZCA, PCA).

    Example:
        >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
        >>> Standardizer().fit(x)(x).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """

    n_samples_seen_: Tensor | None
    mean_: Tensor | None
    m2_: Tensor | None
    _center: Tensor | None
    _forth: Tensor | None
    _back: Tensor | None

    def __init__(self, dim: int = 1, *, whiten: Literal["pca", "zca"] | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.whiten = whiten
        for name in _STATE:
            self.register_buffer(name, None)
        for name in _DERIVED:
            self.register_buffer(name, None, persistent=False)

    # Statistics.

    def fit(self, X: Any, y: object = None, *, mask: Tensor | None = None) -> Self:
        """Forget what was seen, and learn from ``X``; see ``partial_fit``."""
        self._forget()
        self.partial_fit(X, y, mask=mask)
        self._ready()
        return self

    def partial_fit(self, X: Any, y: object = None, *, mask: Tensor | None = None) -> Self:
        """Count a batch in, of any size.

        Args:
            X: a tensor, an array or a table; NaN is missing.
            y: not used; scikit-learn's convention.
            mask: boolean, broadcastable to ``X``, True counts; with ``whiten`` 1 in the place of ``dim``.

        Raises:
            ValueError: an infinite value, another number of features than before, or ``whiten`` is no known name.
            TypeError: complex values, or a mask that is not boolean.
        """
        if self.whiten not in (None, "pca", "zca"):
            raise ValueError(f"whiten must be None, 'pca' or 'zca', got {self.whiten!r}")
        x = X if isinstance(X, Tensor) else self._read(X, first=self.mean_ is None)
        self._check(x)
        seen = self._comoments(x.detach(), mask) if self.whiten else self._moments(x.detach(), mask)
        m2 = seen.moments.m2 if isinstance(seen, Comoments) else seen.m2
        if not bool((finite := (seen.mean.isfinite() & m2.isfinite()) | (seen.count == 0)).all()):
            raise ValueError(
                "the values are infinite, or too large for float64 to square, in feature"
                f" {int((~finite).nonzero()[0])}; rescale them, or replace them by NaN, which counts as missing"
            )
        self._set(seen if self.mean_ is None else self.statistics.merge(seen))
        return self

    def merge(self, other: Standardizer) -> Self:
        """A new Standardizer that has seen what both have.

        Raises:
            ValueError: they differ in ``whiten``, ``dim`` or the number of features.
        """
        if (self.dim, self.whiten) != (other.dim, other.whiten):
            settings = f"dim={self.dim}, whiten={self.whiten!r} and dim={other.dim}, whiten={other.whiten!r}"
            raise ValueError(f"two fits merge only where their settings are the same, got {settings}")
        new = type(self)(self.dim, whiten=self.whiten)
        fitted = [each for each in (self, other) if each.mean_ is not None]
        if fitted:
            new._set(fitted[0].statistics if len(fitted) == 1 else self.statistics.merge(other.statistics))
            new._set_names(next((names for each in fitted if (names := each._names()) is not None), None))
        return new

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> Self:
        """Take in what the other ranks have seen; each must have been fitted, if on nothing (``x[:0]``)."""
        self._set(self.statistics.all_reduce(group))
        return self

    @property
    def statistics(self) -> Any:
        """What was seen, as ``Moments``, or with ``whiten`` as ``Comoments``."""
        if self.n_samples_seen_ is None or self.mean_ is None or self.m2_ is None:
            self._unfitted()
        return (Comoments if self.whiten else Moments)(self.n_samples_seen_, self.mean_, self.m2_)

    @classmethod
    def from_moments(cls, moments: Moments, *, dim: int = 1, feature_names: Iterable[str] | None = None) -> Self:
        """A Standardizer of statistics that are already there, of shape (features,)."""
        new = cls(dim)
        new._set(moments)
        new._set_names(feature_names)
        return new

    @property
    def var_(self) -> Tensor:
        """The variance of each feature, that of the population."""
        seen = self.statistics
        variance: Tensor = (seen.moments if self.whiten else seen).var()
        return variance

    @property
    def scale_(self) -> Tensor:
        """The standard deviation of each feature; 1 where it is constant."""
        return self.var_.sqrt().masked_fill(~self._varies(), 1)

    @property
    def constant_(self) -> Tensor:
        """Which features were seen, and have no spread beyond the rounding of their own mean."""
        constant: Tensor = (self.statistics.count > 0) & ~self._varies()
        return constant

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """The names of the columns that ``transform`` gives: those that were fitted; of ``pca`` its components'."""
        names = super().get_feature_names_out(input_features)
        names[:] = [f"pca{i}" for i in range(len(names))] if self.whiten == "pca" else names
        return names

    # Use.

    def forward(self, x: Tensor) -> Tensor:
        """Standardized or whitened values, of the shape and type of ``x`` (integers: of the default type)."""
        self._check(x)
        center, forth, _ = self._ready()
        wide = _calculated(x)
        high, low = _two_parts(center, wide.dtype)
        deviation = wide - self._view(high, x.ndim)
        if low is not None:
            deviation = deviation - self._view(low, x.ndim)
        return _returned(self._apply_scale(deviation, forth), x)

    def inverse(self, y: Tensor) -> Tensor:
        """The values that ``forward`` made ``y`` of."""
        self._check(y)
        center, _, back = self._ready()
        wide = _calculated(y)
        high, low = _two_parts(center, wide.dtype)
        x = self._apply_scale(wide, back)
        if low is not None:
            x = x + self._view(low, y.ndim)
        return _returned(x + self._view(high, y.ndim), y)

    def affine(self) -> tuple[Tensor, Tensor]:
        """The map as (A, t) with y = A x + t per vector of features; A is (features,) where it is diagonal."""
        center, forth, _ = self._ready()
        return forth, -(forth @ center if forth.ndim == 2 else forth * center)

    def __sklearn_is_fitted__(self) -> bool:
        return self.mean_ is not None

    # Files.

    def save(self, path: str | Path) -> None:
        """Write settings, statistics and names to a ``.json`` or a ``.safetensors`` file, whole or not at all.

        Raises:
            ValueError: the suffix is another, or nothing was fitted.
        """
        self.statistics  # noqa: B018 - raises where there are none
        names = self._names()
        state = {name: value.cpu() for name, value in self.state_dict().items()}
        settings = {"dim": self.dim, "whiten": self.whiten}
        standardizer_files.write(Path(path), settings, state, None if names is None else [str(n) for n in names])

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is not a Standardizer; the message names the file and what is wrong with it.
        """
        settings, state, names = standardizer_files.read(Path(path))
        new = cls(**settings)
        new._set_names(names)
        new.load_state_dict(state)
        return new

    def extra_repr(self) -> str:
        """The settings that are not the default, and how many features were seen."""
        parts = [] if self.dim == 1 else [f"dim={self.dim}"]
        parts += [] if self.whiten is None else [f"whiten={self.whiten!r}"]
        if self.mean_ is not None:
            parts.append(f"features={len(self.mean_)}")
            names = self.get_feature_names_out() if bool(self.constant_.any()) else []
            same = [str(name) for name, constant in zip(names, self.constant_.tolist(), strict=False) if constant]
            more = ["..."] if len(same) > 8 else []
            parts += [f"constant={', '.join(same[:8] + more)}"] if same and self.whiten != "pca" else []
        return ", ".join(parts)

    # State.

    def _moments(self, x: Tensor, mask: Tensor | None) -> Moments:
        axes = tuple(d for d in range(x.ndim) if d != self.dim % x.ndim)
        seen = Moments.of(x, axes, mask)
        if bool(seen.mean.isnan().any()) and x.is_floating_point():  # the slow way only where a value is missing
            seen = Moments.of(x, axes, mask, ignore_nan=True)
        return seen

    def _comoments(self, x: Tensor, mask: Tensor | None) -> Comoments:
        seen = Comoments.of(x, self.dim, mask)
        if bool(seen.mean.isnan().any()) and x.is_floating_point():
            complete = ~x.isnan().any(self.dim, keepdim=True)
            seen = Comoments.of(x, self.dim, complete if mask is None else complete & mask)
        return seen

    def _set(self, seen: Moments | Comoments) -> None:
        m2 = seen.comoment if isinstance(seen, Comoments) else seen.m2
        count = seen.count if self.whiten else seen.count.expand(seen.mean.shape)
        self.n_samples_seen_, self.mean_, self.m2_ = count.clone(), seen.mean.clone(), m2.clone()
        self.n_features_in_ = len(seen.mean)
        self._outdated()

    def _forget(self) -> None:
        for name in _STATE:
            setattr(self, name, None)
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        self._outdated()

    def _outdated(self) -> None:
        for name in _DERIVED:
            setattr(self, name, None)

    def _varies(self) -> Tensor:
        """Which features have a spread beyond the rounding of their own mean."""
        rounding = 128 * torch.finfo(self.var_.dtype).eps  # a sum in blocks of 2**15 is off by a few dozen of them
        varies: Tensor = self.var_.sqrt() > rounding * self.statistics.mean.abs()  # not where it is NaN
        return varies

    def _ready(self) -> tuple[Tensor, Tensor, Tensor]:
        """The center, and the factors forth and back; calculated at the first use after a change."""
        if self._center is not None and self._forth is not None and self._back is not None:
            return self._center, self._forth, self._back
        center = self.statistics.mean.masked_fill(self.statistics.count == 0, 0)
        if self.whiten:
            if torch.compiler.is_compiling():
                raise RuntimeError("call this Standardizer once between its last partial_fit and its compilation")
            forth, back = _whitening(self.statistics.cov(), self._varies(), self.whiten)
        else:
            forth, back = self.scale_.reciprocal(), self.scale_
        if not torch.compiler.is_compiling():  # a graph must not leave its own tensors here
            self._center, self._forth, self._back = center, forth, back
        return center, forth, back

    def _check(self, x: Tensor) -> None:
        if x.is_complex():
            raise TypeError(f"a Standardizer takes real numbers, got {x.dtype}; take x.real and x.imag apart")
        if not -x.ndim <= self.dim < x.ndim:
            raise ValueError(f"the features are in dimension {self.dim}, and x is of shape {tuple(x.shape)}")
        if self.mean_ is not None and x.shape[self.dim] != len(self.mean_):
            raise ValueError(
                f"x has {x.shape[self.dim]} features in dimension {self.dim}, the Standardizer was fitted to"
                f" {len(self.mean_)}"
            )

    def _unfitted(self) -> NoReturn:
        raise ValueError("this Standardizer has seen no data; call fit or partial_fit first, or load its state")

    def _view(self, values: Tensor, ndim: int) -> Tensor:
        return values.view([-1 if d == self.dim % ndim else 1 for d in range(ndim)])

    def _apply_scale(self, x: Tensor, factor: Tensor) -> Tensor:
        if factor.ndim == 1:
            return x * self._view(factor.to(x.dtype), x.ndim)
        return (x.movedim(self.dim, -1) @ factor.to(x.dtype).mT).movedim(-1, self.dim)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves to another device; the type stays, for narrower statistics would be wrong ones."""
        before = {name: getattr(self, name) for name in _STATE}
        self._outdated()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in before.items():
            now = getattr(self, name)
            if value is not None and now.dtype != value.dtype:
                setattr(self, name, value.to(now.device))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in _STATE:  # of the shape that was saved: before fitting there is none
            saved, own = state_dict.get(prefix + name), getattr(self, name)
            device = None if own is None else own.device
            setattr(self, name, None if saved is None else torch.empty_like(saved, device=device))
        self._outdated()
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.__dict__.pop("n_features_in_", None)
        if self.mean_ is not None:
            self.n_features_in_ = len(self.mean_)
            self._ready()


def _calculated(x: Tensor) -> Tensor:
    """In the type of the arithmetic: float32 for half precision, the default type for integers."""
    if not x.is_floating_point():
        return x.to(torch.get_default_dtype())
    return x.float() if x.dtype.itemsize < 4 else x


def _returned(y: Tensor, x: Tensor) -> Tensor:
    return y.to(x.dtype) if x.is_floating_point() else y


def _two_parts(center: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The center in the type of the arithmetic, and what that rounded off."""
    high = center.to(dtype)
    return (high, None) if dtype == center.dtype else (high, (center - high).to(dtype))


def _whitening(cov: Tensor, varies: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """W and its inverse; the identity for the features that do not vary."""
    forth, back = torch.eye(len(cov), dtype=cov.dtype, device=cov.device).repeat(2, 1, 1)
    at = varies.nonzero().squeeze(1)
    variance, axes = torch.linalg.eigh(cov[at][:, at])
    variance, axes = variance.flip(0), axes.flip(1)
    if len(at):
        least = variance[0] * len(at) * torch.finfo(cov.dtype).eps
        deviation = variance.where(variance > least, 1).sqrt()
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        axes = axes * torch.where(largest < 0, -1, 1)
        turn = axes if kind == "zca" else torch.eye(len(at), dtype=cov.dtype, device=cov.device)
        place = (at[:, None], at)
        forth[place] = turn @ (axes / deviation).mT
        back[place] = (axes * deviation) @ turn.mT
    return forth, back
