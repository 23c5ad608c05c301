"""The Standardizer against NumPy, and as an estimator of scikit-learn."""

import copy
import io
import pickle
import sys

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator

import levelhead as lh
from levelhead import Standardizer

OUTPUT_CHECKS = sorted(
    name
    for name in vars(estimator_checks)
    if name.startswith(("check_set_output", "check_global", "check_transformer_get_feature_names", "check_get_feature"))
)


def wide(x, dim=1):
    """Rows of features, float64."""
    return np.moveaxis(np.asarray(x, dtype=np.float64), dim, -1).reshape(-1, x.shape[dim])


@pytest.mark.parametrize(
    ("shape", "dim"), [((50, 3), 1), ((20, 3, 5, 4), 1), ((20, 7, 3), -1), ((20, 7, 3), 2), ((3, 50), 0)]
)
def test_the_formula_and_its_inverse(shape, dim):
    x = torch.randn(shape, dtype=torch.float64) * 3 + 7
    fitted = Standardizer(dim).fit(x)
    rows = wide(x, dim)
    np.testing.assert_allclose(fitted.mean_, rows.mean(0), rtol=1e-13)
    np.testing.assert_allclose(fitted.var_, rows.var(0), rtol=1e-12)
    np.testing.assert_allclose(wide(fitted(x), dim), (rows - rows.mean(0)) / rows.std(0), atol=1e-13)
    np.testing.assert_allclose(fitted.inverse(fitted(x)), x, rtol=1e-14, atol=1e-14)  # a few roundings of 7 + 3 y


@pytest.mark.parametrize("whiten", [None, "pca", "zca"])
def test_batches_of_any_size_and_merged_fits_are_the_same_as_the_whole(whiten):
    x = torch.randn(100, 4) @ torch.randn(4, 4) + 100
    whole, parts, other = (Standardizer(whiten=whiten) for _ in range(3))
    whole.fit(x)
    for part in x[:61].split([1, 13, 40, 7]):
        parts.partial_fit(part)
    other.fit(x[61:])
    merged = parts.merge(other)
    for name, value in whole.state_dict().items():
        # float32 at offset 100 in float64 sums: rounding of the merge alone
        torch.testing.assert_close(merged.state_dict()[name], value, rtol=1e-11, atol=1e-11)
    assert parts.n_samples_seen_.tolist() == (61 if whiten else [61] * 4)
    assert torch.equal(Standardizer(whiten=whiten).merge(other).mean_, other.mean_)
    parts.fit(x[:5])
    assert parts.n_samples_seen_.max() == 5, "fit forgets"


def test_float32_far_from_zero_keeps_its_digits():
    x = torch.randn(1000, 2) + 1e4
    rows = wide(x)
    truth = (rows - rows.mean(0)) / rows.std(0)
    ours = np.abs(Standardizer().fit(x)(x).numpy() - truth).max()
    single = np.abs(((x - x.mean(0)) / x.std(0, correction=0)).numpy() - truth).max()
    assert single > 1e-5, "the plain way in float32 must be seen to fail"
    assert ours < 1e-6  # a few roundings of values of about 3


@pytest.mark.parametrize("whiten", [None, "zca"])
def test_the_type_of_the_input_comes_out(whiten):
    x = torch.randn(100, 3) * 2 + 1
    fitted = Standardizer(whiten=whiten).fit(x)
    for dtype, atol in ((torch.float64, 1e-6), (torch.float16, 4e-3), (torch.bfloat16, 4e-2)):
        y = fitted(x.to(dtype))
        assert y.dtype == dtype
        np.testing.assert_allclose(y.double(), fitted(x), atol=atol)  # the input's own rounding
    whole = torch.randint(0, 9, (50, 3))
    assert Standardizer(whiten=whiten).fit(whole)(whole).dtype == torch.float32


def test_missing_values_count_nowhere_and_stay():
    x = torch.randn(40, 3, 5, dtype=torch.float64)
    missing = torch.rand(40, 3, 5) < 0.2
    fitted = Standardizer().fit(x.masked_fill(missing, torch.nan))
    known = np.ma.masked_array(wide(x), wide(missing))
    np.testing.assert_allclose(fitted.mean_, known.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.var_, known.var(0), rtol=1e-12)
    assert fitted.n_samples_seen_.tolist() == (~wide(missing).astype(bool)).sum(0).tolist()
    y = fitted(x.masked_fill(missing, torch.nan))
    assert torch.equal(y.isnan(), missing)


@pytest.mark.parametrize("whiten", [None, "pca"])
def test_masked_values_count_nowhere(whiten):
    x = torch.randn(40, 3, 5, dtype=torch.float64)
    mask = torch.rand(40, 1, 5) < 0.7
    fitted = Standardizer(whiten=whiten).fit(x.masked_fill(~mask, torch.inf), mask=mask)
    rows = x.movedim(1, -1)[mask[:, 0]].numpy()
    np.testing.assert_allclose(fitted.mean_, rows.mean(0), rtol=1e-11)
    np.testing.assert_allclose(fitted.var_, rows.var(0), rtol=1e-11)
    poisoned = x.clone()
    poisoned[0, 0, 0] = torch.nan  # masked and missing together
    again = Standardizer(whiten=whiten).fit(poisoned, mask=mask)
    assert again.mean_.isfinite().all()


def test_constant_features_are_centred_and_unseen_ones_left_alone():
    x = torch.randn(100_000, 3, dtype=torch.float64)
    x[:, 0], x[:, 2] = 0.1, torch.nan  # 0.1 has no exact sum
    for whiten in (None, "pca", "zca"):
        fitted = Standardizer(whiten=whiten).fit(x[:, :2])
        y = fitted(x[:, :2])
        assert fitted.constant_.tolist() == [True, False]
        # The mean's own rounding is what is left: 128 ε of 0.1.
        np.testing.assert_allclose(y[:, 0], 0, atol=128 * 2.3e-16 * 0.1)
        np.testing.assert_allclose(y[:, 1].std(correction=0), 1, rtol=1e-12)
        np.testing.assert_allclose(fitted.inverse(y)[:, 0], x[:, 0], rtol=1e-14)
    fitted = Standardizer().fit(x)
    assert fitted.constant_.tolist() == [True, False, False]
    assert fitted.scale_[[0, 2]].tolist() == [1, 1]
    assert fitted(torch.full((1, 3), 5.0, dtype=torch.float64))[0, 2] == 5
    years = np.stack([np.arange(5.0), np.full(5, 2024.0)], 1)
    np.testing.assert_allclose(Standardizer().fit_transform(years), StandardScaler().fit_transform(years), rtol=1e-12)
    pandas = pytest.importorskip("pandas")
    fitted = Standardizer().fit(pandas.DataFrame(years, columns=["age", "year"]))
    assert repr(fitted) == "Standardizer(features=2, constant=year)"


@pytest.mark.parametrize("whiten", ["pca", "zca"])
@pytest.mark.parametrize(("shape", "dim"), [((500, 4), 1), ((20, 4, 5, 5), 1), ((20, 25, 4), -1)])
def test_whitened_values_have_the_identity_as_covariance(whiten, shape, dim):
    x = torch.randn(shape, dtype=torch.float64).movedim(dim, -1) @ torch.randn(4, 4, dtype=torch.float64) + 10
    x = x.movedim(-1, dim)
    fitted = Standardizer(dim, whiten=whiten).fit(x)
    y = fitted(x)
    np.testing.assert_allclose(np.cov(wide(y, dim).T, ddof=0), np.eye(4), atol=1e-11)
    np.testing.assert_allclose(fitted.inverse(y), x, rtol=1e-10)


def test_whitening_against_scikit_learn_and_the_definition():
    x = np.random.default_rng(0).normal(size=(300, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    theirs = PCA(whiten=True).fit(x).transform(x) * np.sqrt(300 / 299)  # it divides by n - 1
    ours = Standardizer(whiten="pca").fit_transform(x)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-9)
    matrix = Standardizer(whiten="pca").fit(x).affine()[0]
    rows = matrix.gather(1, matrix.abs().argmax(1, keepdim=True))
    assert (rows > 0).all(), "the largest entry of each component is positive"
    whitening = Standardizer(whiten="zca").fit(x).affine()[0]
    np.testing.assert_allclose(whitening, whitening.mT, atol=1e-12)  # symmetric, and its square inverts the covariance
    np.testing.assert_allclose((whitening @ whitening).numpy() @ np.cov(x.T, ddof=0), np.eye(4), atol=1e-9)


def test_whitening_of_fewer_rows_than_features_does_not_blow_up():
    x = torch.randn(5, 20, dtype=torch.float64)
    for whiten in ("pca", "zca"):
        fitted = Standardizer(whiten=whiten).fit(x)
        assert fitted(x).abs().max() < 10
        np.testing.assert_allclose(fitted.inverse(fitted(x)), x, atol=1e-12)


@pytest.mark.parametrize("whiten", [None, "zca"])
def test_the_state_goes_with_the_model_and_stays_wide(whiten):
    x = torch.randn(50, 3) + 1e4
    model = torch.nn.Sequential(Standardizer(whiten=whiten).fit(x), torch.nn.Linear(3, 2))
    assert list(model.state_dict())[:3] == ["0.n_samples_seen_", "0.mean_", "0.m2_"]
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = torch.nn.Sequential(Standardizer(whiten=whiten), torch.nn.Linear(3, 2))
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x), model(x))
    assert other[0].n_features_in_ == 3
    expected = model[0](x)
    model.half().float()
    assert model[0].mean_.dtype == torch.float64
    assert torch.equal(model[0](x), expected)
    for twin in (copy.deepcopy(model[0]), pickle.loads(pickle.dumps(model[0]))):
        assert torch.equal(twin(x), expected)
    refitted = other[0].partial_fit(x + 5)(x)
    assert not torch.equal(refitted, expected), "what was calculated from old statistics is forgotten"
    other[0].load_state_dict(model[0].state_dict())
    assert torch.equal(other[0](x), expected)


def test_gradients_pass_and_graphs_export():
    x = torch.randn(6, 3, requires_grad=True)
    for whiten in (None, "pca"):
        fitted = Standardizer(whiten=whiten).fit(torch.randn(50, 3) * 4)
        gradient = torch.autograd.grad(fitted(x).sum(), x)[0]
        forth = fitted.affine()[0].float()
        torch.testing.assert_close(gradient, (forth.sum(0) if whiten else forth).expand(6, 3))
        fresh = Standardizer(whiten=whiten)
        fresh.load_state_dict(fitted.state_dict())  # not used before it is exported
        program = torch.export.export(fresh, (x.detach(),))
        torch.testing.assert_close(program.module()(x.detach()), fitted(x.detach()))
        fresh.partial_fit(torch.randn(0, 3))
        if whiten:
            with pytest.raises(RuntimeError, match="call this Standardizer once"):
                torch.export.export(fresh, (x.detach(),))
        else:
            torch.export.export(fresh, (x.detach(),))
            assert fresh._center is None, "a graph must not leave its own tensors"


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("whiten", [None, "zca"])
def test_files(tmp_path, suffix, whiten):
    x = np.random.default_rng(0).normal(size=(30, 3))
    x[:, 1] = 4
    fitted = Standardizer(whiten=whiten).fit(x)
    fitted.save(tmp_path / f"new/s{suffix}")
    loaded = Standardizer.load(tmp_path / f"new/s{suffix}")
    assert loaded.get_params() == fitted.get_params()
    np.testing.assert_array_equal(loaded.transform(x), fitted.transform(x))
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"s{suffix}"]


def test_bad_files(tmp_path):
    fitted = Standardizer().fit(torch.randn(5, 2))
    with pytest.raises(ValueError, match=r"saved as .json or .safetensors, got '.pt'"):
        fitted.save(tmp_path / "s.pt")
    with pytest.raises(ValueError, match="seen no data"):
        Standardizer().save(tmp_path / "s.json")
    for name, text in (("a.json", "{"), ("b.json", '{"kind": "x"}'), ("c.safetensors", "x")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            Standardizer.load(tmp_path / name)
    fitted.save(tmp_path / "s.json")
    text = (tmp_path / "s.json").read_text()
    (tmp_path / "s.json").write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match="of version 2; this levelhead reads version 1"):
        Standardizer.load(tmp_path / "s.json")
    (tmp_path / "s.json").write_text(text.replace('"whiten": null', '"whiten": "zca"'))
    with pytest.raises(ValueError, match="damaged"):
        Standardizer.load(tmp_path / "s.json")


def test_bad_input():
    x = torch.randn(5, 3)
    fitted = Standardizer().fit(x)
    with pytest.raises(ValueError, match="seen no data; call fit"):
        Standardizer()(x)
    with pytest.raises(ValueError, match="x has 4 features in dimension 1, the Standardizer was fitted to 3"):
        fitted(torch.randn(5, 4))
    with pytest.raises(ValueError, match="4 features"):
        fitted.partial_fit(torch.randn(5, 4))
    with pytest.raises(ValueError, match=r"infinite.* in feature 1"):
        fitted.partial_fit(torch.tensor([[0, torch.inf, 0]]))
    assert fitted.n_samples_seen_.tolist() == [5] * 3
    with pytest.raises(ValueError, match="whiten must be None, 'pca' or 'zca', got 'pac'"):
        Standardizer(whiten="pac").fit(x)
    with pytest.raises(ValueError, match="no parameter 'size'"):
        fitted.set_params(size=3)
    with pytest.raises(ValueError, match="settings are the same"):
        fitted.merge(Standardizer(whiten="pca"))
    with pytest.raises(ValueError, match="features are in dimension 1"):
        fitted(torch.randn(3))
    with pytest.raises(TypeError, match="mask must be boolean"):
        fitted.partial_fit(x, mask=torch.ones(5, 3))


@pytest.mark.parametrize("whiten", [None, "zca"])
def test_every_check_of_scikit_learn(whiten):
    """Those of the array interface; the one of its array API needs a variable that is set before SciPy is imported."""
    with pytest.warns(UserWarning, match="does not inherit from"):  # by duck typing, so that sklearn is not needed
        checks = list(estimator_checks_generator(Standardizer(whiten=whiten)))
    assert len(checks) > 40
    for estimator, check in checks:
        if check.func.__name__ != "check_array_api_input":
            check(estimator)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names", "ignore:X has feature names")
@pytest.mark.parametrize("name", OUTPUT_CHECKS)
@pytest.mark.parametrize("whiten", [None, "pca"])
def test_the_checks_of_scikit_learn_on_outputs(name, whiten):
    """They are not among those of ``check_estimator``; scikit-learn runs them on its own transformers."""
    getattr(estimator_checks, name)("Standardizer", Standardizer(whiten=whiten))


def test_in_a_pipeline_and_with_a_table():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1.0, 2, 3], "b": [4.0, np.nan, 6]}, index=[7, 8, 9])
    fitted = clone(Standardizer()).fit(table)
    assert list(fitted.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(table[["b", "a"]])
    steps = make_pipeline(Standardizer(), PCA()).fit(np.random.default_rng(0).normal(size=(20, 3)))
    assert steps.transform(np.zeros((1, 3))).shape == (1, 3)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_tables_come_out_where_they_are_asked_for(container):
    library = pytest.importorskip(container)
    values = {"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 9.0], "c": [0.0, 1.0, 0.0]}
    table = library.DataFrame(values)
    scaler, wanted = (
        Standardizer().set_output(transform=container),
        StandardScaler().fit(np.array([*values.values()]).T),
    )
    out = clone(scaler).fit_transform(table)
    assert type(out) is library.DataFrame
    assert list(out.columns) == ["a", "b", "c"]
    np.testing.assert_allclose(out.to_numpy(), wanted.transform(np.array([*values.values()]).T), rtol=1e-12)
    assert isinstance(scaler.fit(torch.randn(5, 2))(torch.zeros(1, 2)), torch.Tensor)
    with sklearn.config_context(transform_output=container):
        assert type(Standardizer().fit_transform(table)) is library.DataFrame
        assert isinstance(Standardizer().set_output(transform="default").fit_transform(table), np.ndarray)
    columns = ColumnTransformer([("ours", Standardizer(), ["a", "b"])], remainder="passthrough")
    steps = make_pipeline(columns).set_output(transform=container).fit(table)
    assert list(steps.transform(table).columns) == ["ours__a", "ours__b", "remainder__c"]
    assert list(steps.get_feature_names_out()) == ["ours__a", "ours__b", "remainder__c"]
    assert list(Standardizer(whiten="pca").fit(table).get_feature_names_out()) == ["pca0", "pca1", "pca2"]
    with pytest.raises(ValueError, match=r"must be in .*got numpy"):
        scaler.set_output(transform="numpy")
    with pytest.raises(ValueError, match=r"\(rows, features\), and these are of shape \(4, 2, 3\)"):
        scaler.fit(np.ones((4, 2, 3))).transform(np.ones((4, 2, 3)))


def test_a_pandas_table_keeps_its_index():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1.0, 2, 3]}, index=[7, 8, 9])
    assert list(Standardizer().set_output(transform="pandas").fit_transform(table).index) == [7, 8, 9]


def test_arrays_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.utils.validation", None)
    x = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(Standardizer().fit(x).transform(x), (x - x.mean(0)) / x.std(0), rtol=1e-11)


def test_it_is_public():
    assert lh.Standardizer is lh.nn.Standardizer is Standardizer
