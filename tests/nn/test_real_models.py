"""Models that others wrote: converting them keeps what they calculate, and reaches their norms."""

import copy

import pytest
import torch

import levelhead as lh

transformers = pytest.importorskip("transformers")

SMALL = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd"), 32),
    **dict.fromkeys(("intermediate_size", "d_ff"), 48),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head"), 4),
    **{"num_key_value_heads": 2, "head_dim": 8, "d_kv": 8, "vocab_size": 64, "max_position_embeddings": 64},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}


@pytest.mark.parametrize(("name", "norms"), [("llama", 5), ("gemma", 5), ("qwen3", 9), ("t5", 12), ("bert", 5)])
def test_transformers(name, norms):
    torch.manual_seed(0)
    plain = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name, **SMALL)).eval()
    for parameter in plain.parameters():  # weights of norms that are all 1 or 0 would hide their names
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model = lh.convert(copy.deepcopy(plain))
    report = lh.nn.explain(model)
    found = [*report.recognised, *(n for n, kind in report.replaced.items() if "Norm" in kind)]
    assert len(found) == norms
    assert not report.left
    ids = torch.randint(3, 60, (2, 9))
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if name == "t5" else {})}
    outputs = [m(**inputs).last_hidden_state for m in (model, plain)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad(y.square().sum(), list(m.parameters()), allow_unused=True)
        for y, m in zip(outputs, (model, plain), strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)  # of sums of thousands of terms of 1
    model.load_state_dict(plain.state_dict())
