"""What a page is made of: blocks of plots that share a legend and controls. The script and the template draw them."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

#: A trace or layout of plotly.js as plain data. A colour is the name of a variable of the style sheet, with an
#: opacity or without (``--arm-1``, ``--arm-1 16%``), so that the script can redraw in the reader's light or dark.
Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plot:
    """One set of axes.

    Args:
        id: unique on the page.
        alt: the plot in words, for those who do not see it.
        traces: one with ``legendgroup`` is hidden and shown with that entry of the legend; one with
            ``meta={"option": name}`` only while that option is chosen.
        layout: what differs from the look that all plots share.
        title: above the plot; empty where the block's says it.
        options: what can be chosen to be shown, each with its own ``alt``; the first is shown at the start,
            unless ``chosen`` names another.
        choice: what is chosen from, in a word.
    """

    id: str
    alt: str
    traces: tuple[Spec, ...]
    layout: Spec
    title: str = ""
    options: dict[str, str] = field(default_factory=dict)
    chosen: str = ""
    choice: str = ""


@dataclass(frozen=True, slots=True)
class Toggle:
    """A choice between views: each has a name and what it changes in the layout of a plot, by the plot's id."""

    label: str
    views: tuple[tuple[str, dict[str, Spec]], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Plots under one heading.

    Args:
        id: unique on the page.
        title: the heading.
        caption: what is drawn and how to read it.
        plots: under each other, or side by side with the same y axis where ``paired``.
        legend: the colour of each ``legendgroup``.
        toggles: views to choose from.
        grid: side by side, each with axes of its own.
    """

    id: str
    title: str
    caption: str
    plots: tuple[Plot, ...]
    legend: dict[str, str] = field(default_factory=dict)
    toggles: tuple[Toggle, ...] = ()
    paired: bool = False
    grid: bool = False


def colours(arms: list[str], baseline: str) -> dict[str, str]:
    """One colour an arm, the same in every plot and table: neutral for the baseline, then the palette in order."""
    others = [arm for arm in arms if arm != baseline]
    return {baseline: "--arm-0"} | {arm: f"--arm-{1 + i % 6}" for i, arm in enumerate(others)}


def plain(text: str) -> str:
    """Text that plotly.js shows as it is: it reads a few HTML tags in names and titles."""
    return html.escape(text, quote=False)


def axis(title: str, *, log: bool = False, **more: Any) -> Spec:
    """An axis with its title."""
    return {"title": {"text": plain(title)}, "type": "log" if log else "linear", **more}


def line(name: str, x: tuple[float, ...], y: tuple[float, ...], colour: str, **more: Any) -> Spec:
    """A line; ``more`` goes to plotly.js as it is, over the defaults."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(name),
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": 2.25},
        **more,
    }


def band(x: tuple[float, ...], low: tuple[float, ...], high: tuple[float, ...], colour: str, **more: Any) -> Spec:
    """The area between two lines."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [*low, *reversed(high)],
        "fill": "toself",
        "fillcolor": f"{colour} 15%",
        "line": {"width": 0},
        "hoverinfo": "skip",
        **more,
    }


def points(x: list[float], y: list[float], symbol: str, colour: str, hover: list[str], **more: Any) -> Spec:
    """Single marks: ``x`` where something ended, ``dot`` where something was reached."""
    marker: Spec = {"color": colour, "size": 9, "line": {"color": "--paper", "width": 1.5}}
    if symbol == "x":
        marker = {"symbol": "x-thin", "size": 9, "line": {"color": colour, "width": 2.5}}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "marker": marker,
        "text": [plain(text) for text in hover],
        "hovertemplate": "%{text}<extra></extra>",
        "cliponaxis": False,
        **more,
    }
