"""What ``lh.convert`` and ``lh.fold`` do to models that others wrote, with random weights; nothing is downloaded.

    python benchmarks/real_models.py [transformers|timm|monai|geometric|segmentation] [name ...]

For each model: how many norms are replaced, recognised by trial or left, the calls that are fused; the largest
difference of an output and of a gradient in evaluation from the model as it was (as a share of the largest value), and
of an output in bfloat16; the batch norms folded and left, and the difference that makes; the seconds that ``convert``
took; and what fails where the original does not: loading the plain state_dict, a training step, pickling, ``torch.fx``.
With --export, ``torch.export`` and ``torch.compile`` (aot_eager), too.
"""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import levelhead as lh

NAMES = {
    "transformers": (
        "albert apertus arcee bart bert bert-generation big_bird biogpt bloom blenderbot camembert codegen cohere "
        "convbert ctrl data2vec-text deberta deberta-v2 deepseek_v3 diffllama distilbert electra ernie esm falcon "
        "flaubert fnet gemma gemma2 glm glm4 gpt2 gpt_neo gpt_neox gptj granite helium ibert jamba led llama "
        "longt5 mamba marian mbart megatron-bert mistral mixtral mobilebert modernbert mpnet mpt mt5 nemotron olmo "
        "olmo2 opt pegasus phi phi3 plbart qwen2 qwen3 rembert roberta roformer seed_oss smollm3 splinter "
        "squeezebert stablelm starcoder2 t5 umt5 xglm xlm-roberta xlnet xmod"
    ),
    "timm": (
        "resnet18 resnet50d resnetv2_50 resnest14d seresnet18 regnetx_002 regnety_002 mobilenetv2_050 "
        "mobilenetv3_small_050 mobilenetv4_conv_small efficientnet_lite0 tf_efficientnet_b0 efficientnetv2_rw_t "
        "densenet121 inception_v3 xception41 darknet17 cspresnet50 cspdarknet53 dpn48b vgg11_bn hrnet_w18_small "
        "ghostnet_050 repvgg_a0 tresnet_m nfnet_l0 convnext_atto convnextv2_atto vit_tiny_patch16_224 "
        "deit_tiny_patch16_224 swin_tiny_patch4_window7_224 mixer_s32_224 resmlp_12_224 poolformer_s12 "
        "coatnet_nano_rw_224 maxvit_tiny_tf_224 levit_128s edgenext_xx_small mobilevit_xxs pvt_v2_b0 "
        "twins_svt_small efficientformer_l1 fastvit_t8 hgnet_tiny rexnet_100 mnasnet_small"
    ),
    "monai": (
        "UNet DynUNet BasicUNet SegResNet VNet AttentionUnet DenseNet121 resnet10 UNETR SwinUNETR HighResNet "
        "EfficientNetBN"
    ),
    "geometric": "GCN GraphSAGE GIN GAT PNA EdgeCNN DeepGCN",
    "segmentation": "Unet UnetPlusPlus FPN PSPNet DeepLabV3 DeepLabV3Plus Linknet MAnet PAN Segformer",
}

SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim"), 32),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim"), 48),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **{"num_key_value_heads": 2, "head_dim": 8, "d_kv": 8, "rotary_dim": 8, "vocab_size": 64},
    **{"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}


class Case(NamedTuple):
    """A model and its inputs."""

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def run(self, model: nn.Module) -> Tensor:
        """The first tensor of floating point that a model returns."""
        leaves = torch.utils._pytree.tree_leaves(model(*self.args, **self.kwargs))
        return next(leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point())


def _transformers(name: str) -> Case:
    from transformers import AutoConfig, AutoModel

    model = AutoModel.from_config(AutoConfig.for_model(name, **SMALL))
    ids = torch.arange(18).reshape(2, 9) % 50 + 3
    both = {"decoder_input_ids": ids} if getattr(model.config, "is_encoder_decoder", False) else {}
    return Case(model, kwargs={"input_ids": ids, **both})


def _timm(name: str) -> Case:
    timm = importlib.import_module("timm")
    model = timm.create_model(name, pretrained=False, num_classes=10)
    size = model.default_cfg["input_size"][-1] if model.default_cfg.get("fixed_input_size") else 64
    return Case(model, (torch.randn(2, 3, size, size),))


def _monai(name: str) -> Case:
    nets = importlib.import_module("monai.networks.nets")
    flat = {"spatial_dims": 2, "in_channels": 1}
    channels = {"channels": (8, 16, 32), "strides": (2, 2)}
    kernels = {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    arguments: dict[str, dict[str, Any]] = {
        "UNet": {**flat, **channels, "out_channels": 2, "num_res_units": 2, "dropout": 0.1},
        "DynUNet": {**flat, **kernels, "out_channels": 2},
        "AttentionUnet": {**flat, **channels, "out_channels": 2},
        "resnet10": {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 2},
        "UNETR": {**flat, "out_channels": 2, "img_size": (64, 64), "hidden_size": 48, "mlp_dim": 96, "num_heads": 4},
        "SwinUNETR": {**flat, "out_channels": 2, "feature_size": 12},
        "EfficientNetBN": {**flat, "model_name": "efficientnet-b0", "pretrained": False, "num_classes": 2},
        "VNet": {**flat, "out_channels": 2, "dropout_dim": 2},
    }
    return Case(getattr(nets, name)(**arguments.get(name, {**flat, "out_channels": 2})), (torch.randn(2, 1, 64, 64),))


def _geometric(name: str) -> Case:
    models = importlib.import_module("torch_geometric.nn")
    x, edges = torch.randn(40, 8), torch.randint(40, (2, 160))
    if name == "DeepGCN":
        layers = [
            models.DeepGCNLayer(models.GCNConv(16, 16), models.LayerNorm(16), nn.ReLU(), block="res+", dropout=0.1)
            for _ in range(3)
        ]
        return Case(_Deep(layers), (x, edges))
    more = {"aggregators": ["mean", "max"], "scalers": ["identity"], "deg": torch.ones(9)} if name == "PNA" else {}
    return Case(getattr(models, name)(8, 16, 3, 4, dropout=0.1, norm="batch_norm", **more), (x, edges))


class _Deep(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.first, self.layers = nn.Linear(8, 16), nn.ModuleList(layers)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = layer(x, edges)
        return x


def _segmentation(name: str) -> Case:
    models = importlib.import_module("segmentation_models_pytorch")
    encoder = "mit_b0" if name == "Segformer" else "resnet18"
    size = 128 if name == "PAN" else 64
    return Case(getattr(models, name)(encoder, encoder_weights=None, classes=3), (torch.randn(2, 3, size, size),))


MAKERS: dict[str, Callable[[str], Case]] = {
    "transformers": _transformers,
    "timm": _timm,
    "monai": _monai,
    "geometric": _geometric,
    "segmentation": _segmentation,
}


def made(family: str, name: str) -> Case:
    """The model as its library makes it, small where it can be, in evaluation; its norms' parameters are not all 1."""
    torch.manual_seed(0)
    case = MAKERS[family](name)
    for module in case.model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_var is not None:
            module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)
    for parameter in case.model.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    case.model.eval()
    return case


def _share(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-30))


def _gradient_share(case: Case, ours: nn.Module, theirs: nn.Module) -> float:
    """The largest difference of a gradient, in float64, as a share of the largest of all; NaN where it runs in none."""
    found = []
    for model in (ours, theirs):
        wide = copy.deepcopy(model).double()
        given = torch.utils._pytree.tree_map(
            lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, (case.args, case.kwargs)
        )
        try:
            y = Case(wide, *given).run(wide)
        except RuntimeError:  # of kernels that know no float64
            return float("nan")
        parameters = [p for p in wide.parameters() if p.requires_grad]
        found.append(torch.autograd.grad(y.square().mean(), parameters, allow_unused=True))
    pairs = [(a, b) for a, b in zip(*found, strict=True) if a is not None and b is not None]
    largest = max(float(b.abs().max()) for _, b in pairs)
    return max(float((a - b).abs().max()) for a, b in pairs) / max(largest, 1e-30)


def _step(case: Case, model: nn.Module) -> None:
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    loss = case.run(model).float().square().mean()
    loss.backward()
    optimizer.step()
    assert loss.isfinite(), "the loss is not finite"


def _narrow(case: Case, model: nn.Module) -> Tensor:
    model = copy.deepcopy(model).bfloat16()
    args = torch.utils._pytree.tree_map(lambda x: x.bfloat16() if torch.is_floating_point(x) else x, case.args)
    return case._replace(args=args).run(model)


def failures(case: Case, ours: nn.Module, theirs: nn.Module, export: bool) -> Iterator[str]:
    """What fails on the converted model and not on the plain one."""

    def exported(model: nn.Module) -> Tensor:
        return case.run(torch.export.export(model, case.args, case.kwargs).module())

    def compiled(model: nn.Module) -> Tensor:
        torch._dynamo.reset()
        return case.run(torch.compile(model, backend="aot_eager"))  # type: ignore[arg-type]

    checks: dict[str, Callable[[nn.Module], Any]] = {
        "load": lambda m: m.load_state_dict(theirs.state_dict()),
        "step": lambda m: _step(case, m),
        "pickle": lambda m: case.run(pickle.loads(pickle.dumps(m))),
        "fx": lambda m: case.run(torch.fx.symbolic_trace(m)),
        **({"export": exported, "compile": compiled} if export else {}),
    }
    for name, check in checks.items():
        try:
            before = check(theirs)
        except Exception:  # then there is nothing to keep
            continue
        try:
            after = check(ours)
            if isinstance(before, Tensor) and _share(after, before) > 1e-4:
                yield f"{name}: differs by {_share(after, before):.0e}"
        except Exception as error:
            yield f"{name}: {type(error).__name__} {str(error).splitlines()[0][:60] if str(error) else ''}"


class Row(NamedTuple):
    """One model's line."""

    replaced: int
    recognised: int
    left: int
    fused: int
    output: float
    gradient: float
    narrow: float
    folded: str
    seconds: float
    fails: list[str]

    def __str__(self) -> str:
        """The cells."""
        counts = " | ".join(map(str, self[:4]))
        shares = " | ".join(f"{share:.0e}" for share in self[4:7])
        return f"{counts} | {shares} | {self.folded} | {self.seconds:.1f} | {'; '.join(self.fails)}"


def row(family: str, name: str, export: bool = False) -> Row:
    """Converts and folds one model, and compares."""
    case = made(family, name)
    plain = copy.deepcopy(case.model)
    start = time.perf_counter()
    ours = lh.convert(case.model)
    seconds = time.perf_counter() - start
    report = lh.nn.explain(ours)
    norms = sum("Norm" in kind for kind in report.replaced.values())
    left = sum("calculates no norm" in why for why in report.left.values())
    fused = sum(len(text.split(", ")) for text in report.fused.values())
    with torch.no_grad():
        output = _share(case.run(ours), case.run(plain))
        try:
            narrow = _share(_narrow(case, ours), _narrow(case, plain))
        except Exception:  # a model that takes no bfloat16 on this device
            narrow = float("nan")
        folded = ""
        if any(isinstance(m, nn.modules.batchnorm._NormBase) for m in plain.modules()):
            folding = lh.fold(plain, case.args)
            share = _share(case.run(folding.model), case.run(plain))
            folded = f"{len(folding.folded)}, {len(folding.left)} left, {share:.0e}"
    gradient = _gradient_share(case, ours, plain)
    fails = list(failures(case, ours, plain, export))
    return Row(norms, len(report.recognised), left, fused, output, gradient, narrow, folded, seconds, fails)


def main() -> None:
    """The table, and its sums."""
    warnings.simplefilter("ignore")
    arguments = [a for a in sys.argv[1:] if a != "--export"]
    family = arguments.pop(0) if arguments and arguments[0] in NAMES else "transformers"
    print("| model | replaced | recognised | left | fused | output | gradient | bf16 | folded | s | fails |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows, failed = [], []
    for name in arguments or NAMES[family].split():
        try:
            found = row(family, name, "--export" in sys.argv)
        except Exception as error:  # a configuration that these sizes do not fit
            failed.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}")
            continue
        rows.append(found)
        print(f"| {name} | {found} |", flush=True)
    if failed:
        print("not made at these sizes:", *failed, sep="\n  ")
    if not rows:
        return
    replaced, recognised, left, fused = (sum(each[i] for each in rows) for i in range(4))
    total = max(replaced + recognised + left, 1)
    print(
        f"\n{len(rows)} models, {total} norms: {replaced} replaced, {recognised} recognised, {left} left "
        f"({(replaced + recognised) / total:.1%} reached); {fused} calls fused; largest difference of an output "
        f"{max(each.output for each in rows):.0e}, of a gradient "
        f"{max(each.gradient for each in rows if each.gradient == each.gradient):.0e}; slowest "
        f"convert {max(each.seconds for each in rows):.1f} s; {sum(bool(each.fails) for each in rows)} models fail in "
        "something that worked"
    )


if __name__ == "__main__":
    main()
