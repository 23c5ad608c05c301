"""Every norm entry of PyTorch's own table of module tests, run against our classes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

from levelhead import nn

ENTRIES = {info.module_cls.__name__: info for info in module_db if hasattr(nn, info.module_cls.__name__)}
entries = pytest.mark.parametrize("info", ENTRIES.values(), ids=ENTRIES)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def test_the_table_covers_every_module():
    # Functions; a policy; and what has tests of its own: dropout, test_standardizer.py, test_sync.py.
    own = ("Standardizer", "StatePolicy", "SyncBatchNorm")
    others = {name for name in nn.__all__ if name[0].islower() or "Dropout" in name or name in own}
    assert set(ENTRIES) == set(nn.__all__) - others


def cases(info, dtype, training, requires_grad=True):
    """Our module and PyTorch's with the same state and an input, for every entry of the table."""
    for case in info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training
    ):
        constructor, call = case.constructor_input, case.forward_input
        theirs = info.module_cls(*constructor.args, **constructor.kwargs, dtype=dtype)
        ours = getattr(nn, info.module_cls.__name__)(*constructor.args, **constructor.kwargs, dtype=dtype)
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.uniform_(0.5, 1.5)
        ours.load_state_dict(theirs.state_dict())
        for module in (ours, theirs):
            module.train(training)
        yield ours, theirs, call.args, call.kwargs


@entries
@dtypes
@modes
def test_forward_gradients_and_buffers(backend, info, dtype, training):
    count = 0
    for ours, theirs, args, kwargs in cases(info, dtype, training):
        results = []
        for module in (ours, theirs):
            inputs = [copy.deepcopy(arg).detach().requires_grad_() for arg in args]
            y = module(*inputs, **kwargs)
            generator = torch.Generator().manual_seed(0)
            dy = torch.randn(y.shape, dtype=dtype, generator=generator)
            gradients = torch.autograd.grad(y, [*inputs, *module.parameters()], dy)
            results.append((y, gradients, dict(module.named_buffers())))
        torch.testing.assert_close(*results)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        count += 1
    assert count > 0


@entries
@modes
def test_gradcheck_and_gradgradcheck(backend, info, training):
    for ours, _, args, kwargs in cases(info, torch.float64, training):
        parameters = tuple(ours.parameters())
        state = copy.deepcopy(ours.state_dict())

        def call(x, *_, ours=ours, state=state, kwargs=kwargs):
            ours.load_state_dict({k: v for k, v in state.items() if "num_batches" in k}, strict=False)
            return ours(x, **kwargs)

        inputs = (args[0].detach().requires_grad_(), *parameters)
        fast = args[0].numel() > 64  # random directions instead of every entry of the Jacobian
        assert torch.autograd.gradcheck(call, inputs, fast_mode=fast)
        if args[0].numel():
            assert torch.autograd.gradgradcheck(call, inputs, fast_mode=fast)


@entries
@modes
def test_channels_last_and_a_copy(backend, info, training):
    for ours, theirs, args, kwargs in cases(info, torch.float32, training):
        clone = copy.deepcopy(ours)
        expected = theirs(*args, **kwargs)
        x = args[0].detach()
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if x.ndim in formats:
            x = x.to(memory_format=formats[x.ndim])
        torch.testing.assert_close(clone(x, **kwargs), expected)


@entries
def test_errors_of_the_table(backend, info):
    if info.module_error_inputs_func is None:
        pytest.skip("the table has no errors for this module")
    for case in info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
    ):
        constructor, call = case.module_error_input.constructor_input, case.module_error_input.forward_input
        cls = getattr(nn, info.module_cls.__name__)
        if case.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(case.error_type, match=case.error_regex):
                cls(*constructor.args, **constructor.kwargs)
        else:
            module = cls(*constructor.args, **constructor.kwargs)
            with pytest.raises(case.error_type, match=case.error_regex):
                module(*call.args, **call.kwargs)


BAD_INPUTS = {
    "one value a channel": (("BatchNorm1d", 3), torch.randn(1, 3)),
    "one value an instance": (("InstanceNorm1d", 3), torch.randn(2, 3, 1)),
    "too few dimensions": (("BatchNorm2d", 3), torch.randn(2, 3)),
    "too few for groups": (("GroupNorm", 3, 3), torch.randn(3)),
    "another number of channels": (("BatchNorm1d", 3), torch.randn(4, 5)),
    "another number of channels, instance": (("InstanceNorm1d", 3, 1e-5, 0.1, True), torch.randn(4, 5, 2)),
    "another number of channels, group": (("GroupNorm", 2, 6), torch.randn(4, 8, 2)),
    "not divisible": (("GroupNorm", 2, 6, 1e-5, False), torch.randn(4, 7, 2)),
    "another last dimension": (("LayerNorm", 3), torch.randn(4, 5)),
    "another last dimension, rms": (("RMSNorm", 3), torch.randn(4, 5)),
    "integers": (("BatchNorm1d", 3), torch.ones(4, 3, dtype=torch.long)),
    "integers, layer": (("LayerNorm", 3), torch.ones(4, 3, dtype=torch.long)),
    "double into float32": (("BatchNorm1d", 3), torch.randn(4, 3, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_gets_the_error_type_of_pytorch(backend, name):
    (cls, *arguments), x = BAD_INPUTS[name]
    with pytest.raises(Exception) as theirs:
        getattr(torch.nn, cls)(*arguments)(x)
    with pytest.raises(theirs.type):
        getattr(nn, cls)(*arguments)(x)
