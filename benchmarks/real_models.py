"""What ``lh.convert`` reaches in models that others wrote: transformers' architectures, tiny, with random weights.

    python benchmarks/real_models.py [name ...]

For each: how many norms are replaced, recognised by trial or left, the calls that are fused, the largest difference of
an output in evaluation (as a share of its largest value), and the seconds that ``convert`` took.
"""

from __future__ import annotations

import copy
import sys
import time
import warnings
from typing import Any

import torch

import levelhead as lh

NAMES = (
    "albert apertus arcee bart bert bert-generation big_bird biogpt bloom blenderbot camembert codegen cohere convbert "
    "ctrl data2vec-text deberta deberta-v2 deepseek_v3 diffllama distilbert electra ernie esm falcon flaubert fnet "
    "gemma gemma2 glm glm4 gpt2 gpt_neo gpt_neox gptj granite helium ibert jamba led llama longt5 mamba marian mbart "
    "megatron-bert mistral mixtral mobilebert modernbert mpnet mpt mt5 nemotron olmo olmo2 opt pegasus phi phi3 plbart "
    "qwen2 qwen3 rembert roberta roformer seed_oss smollm3 splinter squeezebert stablelm starcoder2 t5 umt5 xglm "
    "xlm-roberta xlnet xmod"
)

SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim"), 32),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim"), 48),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **{"num_key_value_heads": 2, "head_dim": 8, "d_kv": 8, "rotary_dim": 8, "vocab_size": 64},
    **{"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}


def made(name: str) -> torch.nn.Module:
    """The architecture with as little of everything as it takes, in evaluation."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(name, **SMALL)).eval()  # type: ignore[no-any-return]


def first_output(model: torch.nn.Module) -> torch.Tensor:
    """The first tensor that a model returns for fixed tokens."""
    ids = torch.arange(18).reshape(2, 9) % 50 + 3
    both = {"decoder_input_ids": ids} if getattr(model.config, "is_encoder_decoder", False) else {}
    with torch.no_grad():
        return model(input_ids=ids, **both)[0]  # type: ignore[no-any-return]


def row(name: str) -> tuple[int, int, int, int, float, float]:
    """Replaced, recognised, left, fused; the difference and the seconds."""
    model = made(name)
    plain = copy.deepcopy(model)
    start = time.perf_counter()
    lh.convert(model)
    seconds = time.perf_counter() - start
    report = lh.nn.explain(model)
    norms = sum("Norm" in kind for kind in report.replaced.values())
    left = sum("calculates no norm" in why for why in report.left.values())
    fused = sum(len(text.split(", ")) for text in report.fused.values())
    ours, theirs = first_output(model), first_output(plain)
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    return norms, len(report.recognised), left, fused, difference, seconds


def main() -> None:
    """The table, and its sums."""
    warnings.simplefilter("ignore")
    print("| model | replaced | recognised | left | fused | difference | s |\n|---|---|---|---|---|---|---|")
    rows, failed = [], []
    for name in sys.argv[1:] or NAMES.split():
        try:
            made_row = row(name)
        except Exception as error:  # a configuration that these sizes do not fit
            failed.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}")
            continue
        rows.append(made_row)
        print(f"| {name} | {' | '.join(map(str, made_row[:4]))} | {made_row[4]:.0e} | {made_row[5]:.1f} |", flush=True)
    replaced, recognised, left, fused = (sum(each[i] for each in rows) for i in range(4))
    total = max(replaced + recognised + left, 1)
    print(
        f"\n{len(rows)} models, {total} norms: {replaced} replaced, {recognised} recognised, {left} left "
        f"({(replaced + recognised) / total:.1%} reached); {fused} calls fused; largest difference "
        f"{max(each[4] for each in rows):.0e}; slowest convert {max(each[5] for each in rows):.1f} s"
    )
    print("not made at these sizes:", *failed, sep="\n  ")


if __name__ == "__main__":
    main()
