"""The causes that the doctor knows: code, name, place in the program, and what each one means. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["data", "init", "architecture", "normalization", "loss", "optimization", "generalization"]


@dataclass(frozen=True, slots=True)
class Cause:
    """A fault that a person can mend.

    Args:
        code: ``LH101`` and so on; the first digit is the group's.
        name: as findings carry it.
        meaning: what is wrong, in one sentence.
        threshold: from when on it is a finding, with the source.
        remedy: what to do, in words.
    """

    code: str
    name: str
    meaning: str
    threshold: str
    remedy: str

    @property
    def group(self) -> Group:
        """The part of a training program that holds the fault."""
        return _GROUPS[int(self.code[2]) - 1]

    @property
    def page(self) -> str:
        """The page of the documentation that explains it."""
        return f"docs/doctor/rules.md#{self.code.lower()}"


_GROUPS: tuple[Group, ...] = (
    "data",
    "init",
    "architecture",
    "normalization",
    "loss",
    "optimization",
    "generalization",
)
#: Said of every cause that counts only where its repair, tried on a copy, pays.
_GAIN = "its repair, tried on a copy, wins at least a tenth of the way from a constant answer to the repaired score"
_LARGE = "its repair, tried on a copy, wins at least a quarter of the way from a constant answer to the repaired score"

_TABLE = (
    Cause(
        "LH101",
        "inputs-not-normalized",
        "the inputs' scale or offset is far from what the first layer's initialization assumes",
        f"root mean square of the inputs above 5 or below 0.1, or columns apart by 30 in scale; {_GAIN} "
        "(LeCun et al. 1998, Efficient BackProp, section 4.3)",
        "standardize the inputs with the training data's mean and deviation",
    ),
    Cause(
        "LH102",
        "targets-not-normalized",
        "regression targets whose scale or offset the output layer cannot reach in the time given",
        f"root mean square of the targets above 5 or below 0.1; {_GAIN}; or the whole reach of an Adam-like optimizer "
        "(steps x rate, Kingma & Ba 2015, section 2.1) is under their spread",
        "standardize the targets for the loss, and undo it on the model's answers",
    ),
    Cause(
        "LH103",
        "labels-corrupted",
        "labels do not belong to their inputs, or a large share of them is wrong",
        "rows near to each other (Cover & Hart 1967) share their label less than 0.6 times as often, beyond chance, as "
        "in validation data; or the labels are learnt, validation stays at the level of a constant answer, and "
        "neighbours agree by chance alone",
        "align the labels with their inputs again; look at a few rows with their labels",
    ),
    Cause(
        "LH104",
        "labels-invalid",
        "labels outside the classes, of the wrong type, or scaled as if they were inputs",
        "a label outside 0 .. outputs - 1, or one single label in all the training data; or targets beyond 0 .. 1 for "
        "a loss that takes them for shares",
        "give class numbers from 0 to classes - 1, unscaled",
    ),
    Cause(
        "LH105",
        "train-val-mismatch",
        "training and validation data are prepared differently",
        "deviations of inputs or targets apart by a factor of 2, or means by 1 deviation; or frequencies of columns "
        "10 deviations apart, and held-out training rows a quarter of the way better than validation rows; or no label "
        "in common",
        "prepare both with the same function, fitted on the training data alone",
    ),
    Cause(
        "LH106",
        "non-finite-data",
        "NaN or infinity in the inputs or targets",
        "one such value",
        "find the rows and drop or impute them",
    ),
    Cause(
        "LH107",
        "no-shuffle",
        "batches come in an order that biases the updates",
        "batches repeat in one order and their labels differ between batches ten times as much as in random ones; "
        f"{_GAIN}",
        "shuffle=True in the training loader",
    ),
    Cause(
        "LH201",
        "constant-init",
        "zero or constant weights: the units of a layer stay identical",
        "units (of an embedding: columns) equal at first and still equal after ten updates "
        "(Goodfellow et al. 2016, Deep Learning, section 8.4)",
        "random initial weights: the layers' own reset_parameters()",
    ),
    Cause(
        "LH202",
        "init-too-large",
        "the weights' scale makes the signal or the gradient grow",
        f"weights 3 times the scale that keeps the signal (He et al. 2015, eq. 10), or an embedding of deviation "
        f"5; {_GAIN}",
        "draw the weights at the scale that keeps the signal's variance",
    ),
    Cause(
        "LH203",
        "init-too-small",
        "the weights' scale makes the signal or the gradient die with depth",
        f"the signal shrinks to less than a tenth over the depth (He et al. 2015, section 2.2); {_GAIN}",
        "draw the weights at the scale that keeps the signal's variance",
    ),
    Cause(
        "LH301",
        "missing-nonlinearity",
        "stacked linear layers with nothing between them",
        "two linear layers in a row whose product one layer can hold (no bottleneck between)",
        "put an activation between them, or leave one out",
    ),
    Cause(
        "LH302",
        "saturating-activation",
        "hidden sigmoid or tanh units driven flat, or a squashing function that stalls a deep stack",
        f"hidden sigmoid, softmax or tanh layers; {_GAIN} (Glorot & Bengio 2010, section 3)",
        "ReLU in their place",
    ),
    Cause(
        "LH303",
        "dead-units",
        "ReLU units that no input turns on",
        f"half of a layer's units are 0 for every row looked at; {_GAIN} (Lu et al. 2020, Dying ReLU)",
        "zero biases and calibrated weights, or LeakyReLU",
    ),
    Cause(
        "LH304",
        "output-mismatch",
        "the last layer's activation cannot represent the target",
        "targets outside the range of the last activation, or the loss applies it again, or a softmax where rows have "
        "several labels",
        "give the loss what it expects",
    ),
    Cause(
        "LH305",
        "missing-normalization",
        "a deep stack whose signal drifts and that a normalization layer would hold",
        f"five or more layers without normalization; {_GAIN}, more than calibrated weights do",
        "a normalization layer in front of each activation",
    ),
    Cause(
        "LH401",
        "batch-too-small",
        "batch statistics over too few values, a last batch of one row included",
        f"fewer than 8 values a channel in a batch, or up to 4 rows; {_GAIN} "
        "(Wu & He 2018, Group Normalization, figure 1); "
        "or a normalization over a single value",
        "larger batches, or a normalization that takes no batch statistics",
    ),
    Cause(
        "LH402",
        "stale-running-statistics",
        "running mean and variance far from the population's",
        "population statistics in their place (Wu & Johnson 2021, Rethinking Batch in BatchNorm, section 3) win a "
        "tenth of the way from a constant answer to the score with them",
        "momentum=0.1, or recalibrate with population statistics before evaluation",
    ),
    Cause(
        "LH403",
        "poisoned-running-statistics",
        "non-finite running statistics",
        "one such value, at first or after the training",
        "find the batch that held NaN, reset the statistics and recalibrate them",
    ),
    Cause(
        "LH404",
        "bias-before-norm",
        "a bias that the following normalization removes",
        "a linear or convolution layer with a bias straight before batch or instance normalization",
        "bias=False in that layer",
    ),
    Cause(
        "LH405",
        "dropout-before-batch-norm",
        "dropout ahead of batch normalization shifts the variance between training and evaluation",
        "statistics taken with dropout off, in place of the running ones, win a tenth (Li et al. 2019, Understanding "
        "the disharmony between dropout and batch normalization, section 3)",
        "dropout behind the last batch normalization",
    ),
    Cause(
        "LH406",
        "eval-mode-in-training",
        "the model is updated in eval mode: batch statistics frozen, dropout off",
        f"a normalization that is trained runs on running statistics; {_GAIN}",
        "model.train() at the start of each epoch, and after each evaluation",
    ),
    Cause(
        "LH407",
        "train-mode-in-eval",
        "the model is evaluated in training mode: dropout or batch statistics are on",
        "a batch normalization or dropout runs in training mode during evaluation; or dropout is called as a function "
        "that drops, and the score without it is a tenth of the way better",
        "model.eval() before evaluation",
    ),
    Cause(
        "LH501",
        "loss-mismatch",
        "a loss that does not fit the task",
        f"squared or absolute error for classes, cross-entropy for a quantity, or outputs equal to the targets "
        f"cost more than others; {_GAIN}; or every answer to the rows of one class costs the same",
        "cross-entropy for classes, squared error for a quantity",
    ),
    Cause(
        "LH502",
        "loss-broadcast",
        "predictions and targets broadcast against each other",
        "outputs and targets hold as many values in different shapes, and the loss changes when they are aligned",
        "give both the same shape: outputs.squeeze(1), or targets.unsqueeze(1)",
    ),
    Cause(
        "LH503",
        "gradient-ascent",
        "the update climbs the loss",
        "the gradient that the optimizer gets, or its update, points against the loss's own descent; or right answers "
        "cost more than wrong ones, and the update goes down",
        "minimize: no sign, no maximize=True",
    ),
    Cause(
        "LH504",
        "loss-detached",
        "no gradient reaches (part of) the model",
        "a parameter of the optimizer, in a layer that runs, never gets a gradient, or all get zeros",
        "leave out the detach(), item(), numpy() or no_grad() between the layer and the loss",
    ),
    Cause(
        "LH601",
        "learning-rate-too-high",
        "the learning rate is too high: the loss rises, jumps, or is not finite",
        f"a rate of a tenth or less at the same number of updates: {_LARGE}",
        "a smaller learning rate",
    ),
    Cause(
        "LH602",
        "learning-rate-too-low",
        "the learning rate is too low to arrive in the updates given",
        f"a rate of ten times or more at the same number of updates, or no schedule: {_LARGE}; one rate for groups "
        "whose rates are 100 times apart: a tenth",
        "a larger learning rate",
    ),
    Cause(
        "LH603",
        "too-few-updates",
        "training stops long before it has converged",
        f"the same program for four times as many updates or more: {_LARGE}; and no other repair does it in the "
        "updates given, or the rate is at least the optimizer's default",
        "more epochs",
    ),
    Cause(
        "LH604",
        "gradients-accumulate",
        "gradients are never cleared between updates",
        "the gradient at each update, of all parameters or of some, is the last one plus the batch's own",
        "optimizer.zero_grad() before each backward()",
    ),
    Cause(
        "LH605",
        "parameters-not-trained",
        "parameters frozen, or missing from the optimizer",
        f"a parameter in a layer that runs is not in the optimizer, or needs no gradient; {_GAIN}; or gradients arrive "
        "and are gone when the optimizer steps",
        "give the optimizer all of model.parameters()",
    ),
    Cause(
        "LH606",
        "decay-on-norm-or-bias",
        "weight decay on normalization parameters or biases",
        "a parameter group with weight_decay > 0 holds some (style; the convention of He et al. 2019, Bag of tricks, "
        "section 3.1)",
        "two parameter groups: weight_decay for matrices, 0 for the rest",
    ),
    Cause(
        "LH607",
        "penalty-too-strong",
        "weight decay or a penalty that holds the model back",
        f"training without it: {_GAIN}, and fits the training data better",
        "a smaller weight_decay",
    ),
    Cause(
        "LH701",
        "overfitting",
        "validation worsens while training improves",
        "the final validation score is a tenth of the way (from a constant answer), and twice its standard error, "
        "under its best during training, while the training loss fell on (Prechelt 1998, Early stopping - but when?)",
        "stop at the best epoch, penalize, or take a smaller model",
    ),
    Cause(
        "LH702",
        "dropout-too-strong",
        "dropout that keeps the model from fitting the training data",
        f"training without dropout: {_GAIN}, and fits the training data better",
        "a smaller dropout rate",
    ),
    Cause(
        "LH703",
        "model-too-small",
        "too little capacity for the data",
        "fewer than 2 n + d weights for n rows of d inputs (Zhang et al. 2017, theorem 1); hidden layers 8 times as "
        "wide win at least a quarter of the way from a constant answer to the repaired score, and fit the training "
        "data better",
        "wider hidden layers",
    ),
)

#: Every cause by its name.
CAUSES: dict[str, Cause] = {cause.name: cause for cause in _TABLE}
