"""Models that others wrote: converting them keeps what they calculate, and reaches their norms."""

import copy
import pickle

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
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
IMAGES = {
    "resnet": {**STAGES, "layer_type": "basic"},
    "regnet": {**STAGES, "groups_width": 8},
    "convnext": {"depths": [1, 1], "hidden_sizes": [8, 16], "num_stages": 2},
    "vit": {**SMALL, "image_size": 32, "patch_size": 8, "hidden_dropout_prob": 0.1},
    "swinv2": {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 32},
}
#: Norms, and calls that are fused.
MODELS = {
    **{"llama": (5, 0), "gemma": (5, 0), "qwen3": (9, 0), "t5": (12, 10), "bert": (5, 4), "gpt2": (5, 0)},
    **{"resnet": (6, 3), "regnet": (9, 5), "convnext": (5, 0), "vit": (5, 4), "swinv2": (7, 2)},
}


@pytest.mark.parametrize("name", MODELS)
def test_transformers(name):
    norms, fused = MODELS[name]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **IMAGES.get(name, SMALL))
    plain = transformers.AutoModel.from_config(config).eval()
    for parameter in plain.parameters():  # weights of norms that are all 1 or 0 would hide their names
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model = lh.convert(copy.deepcopy(plain))
    report = lh.nn.explain(model)
    found = [*report.recognised, *(n for n, kind in report.replaced.items() if "Norm" in kind)]
    assert len(found) == norms
    assert sum(len(text.split(", ")) for text in report.fused.values()) == fused
    assert not report.left
    ids = torch.randint(3, 60, (2, 9))
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if name == "t5" else {})}
    if name in IMAGES:
        inputs = {"pixel_values": torch.randn(2, 3, 32, 32)}
    outputs = [m(**inputs).last_hidden_state for m in (model, plain)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad(y.square().sum(), list(m.parameters()), allow_unused=True)
        for y, m in zip(outputs, (model, plain), strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)  # of sums of thousands of terms of 1
    model.load_state_dict(plain.state_dict())
    again = pickle.loads(pickle.dumps(model))(**inputs).last_hidden_state
    torch.testing.assert_close(again, outputs[0])
