"""A run on one page: a single HTML file with its numbers, figures, config and warnings, that needs no network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import torch
from jinja2 import Environment, StrictUndefined, Template
from matplotlib.figure import Figure

from pyrovae.errors import PyrovaeError
from pyrovae.evidence.result import DOUBT
from pyrovae.report.canvas import png, webp
from pyrovae.report.theme import DARK, LIGHT, theme
from pyrovae.training.progress import duration

TEMPLATE = Path(__file__).with_name("page.html.jinja")
DPI = 150  # of images on the page: sharp on a phone, small in the file
LARGE = 150_000  # bytes of a picture
TERMS = {
    "objective": "objective, training",
    "validation": "objective, validation",
    "log_px_z": "E[log p(x | z)]",
    "kl": "KL to the prior",
    "beta": "beta",
    "grad_norm": "norm of the gradient",
    "skipped": "steps skipped",
    "seconds": "seconds",
}
ENDINGS = {
    "interrupted": "it was interrupted",
    "aborted": "an error ended it",
    "callback": "a callback ended it",
}
DETAILS = (
    ("acceptance, mean", "acceptance", 2),
    ("effective sample size, median", "ess_median", 1),
)
Drawn = tuple[str, str, Callable[[], Figure]]


RECENT = 0.95  # of the epochs: a best one after that is a sign that training was stopped on the way up


def html(
    *,
    title: str,
    config: str,
    manifest: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any] | None,
    figures: Sequence[Drawn],
    others: Sequence[Mapping[str, Any]] = (),
    sandwiches: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The report of a run as one HTML page, light or dark as its reader's screen is; no script, nothing from outside.

    Args:
        title: of the run.
        config: its YAML.
        manifest: of the run: options, environment, device, and data, best_epoch, stopped and seconds where known.
        history: its epochs, the lines of ``history.jsonl``.
        evidence: ``Evidence.record()`` and what stands beside it in ``evidence.json``; None before evaluation.
        figures: (heading, caption, drawing) of each; a drawing is called once per theme. One that raises PyrovaeError
            is left out with its reason.
        others: as ``evidence``, of the same data by other methods; for a table of all.
        sandwiches: ``Sandwich.record()`` of each method.

    Example:
        >>> from pyrovae import report
        >>> text = report.html(title="mine", config="seed: 0", manifest={}, history=[], evidence=None, figures=[])
        >>> text.startswith("<!doctype html>")
        True
    """
    history = list(history)
    return _template().render(
        title=title,
        about=_about(manifest, history),
        headline=[] if evidence is None else _headline(evidence),
        procedure="" if evidence is None else evidence["procedure"],
        details=[] if evidence is None else _details(evidence),
        tables=[table for table in (_methods(evidence, others), _sandwiches(sandwiches)) if table["rows"]],
        evaluated=evidence is not None,
        warnings=warnings(manifest, history, evidence),
        figures=[_figure(*figure) for figure in figures],
        terms=_terms(manifest, history),
        data=_flat(manifest.get("data") or (evidence or {}).get("data") or {}),
        options=_flat(manifest.get("options") or {}),
        environment=_flat({**(manifest.get("environment") or {}), "device": manifest.get("device", "unknown")}),
        config=config.rstrip(),
        light=LIGHT,
        dark=DARK,
    )


@cache
def _template() -> Template:
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.from_string(TEMPLATE.read_text(encoding="utf-8"))


def warnings(
    manifest: Mapping[str, Any], history: Sequence[Mapping[str, Any]], evidence: Mapping[str, Any] | None
) -> list[str]:
    """What a reader of a run's figures should know before believing them."""
    return [*_doubts(evidence or {}), *_training_doubts(manifest, history)]


def _doubts(evidence: Mapping[str, Any]) -> list[str]:
    found = []
    if share := evidence.get("share_unreliable"):
        found.append(
            f"For {100 * share:.1f} % of the data {evidence['doubt'].rstrip(',')}: {DOUBT}. There the figures are "
            "bounds of unknown slack."
        )
    if (reached := evidence.get("share_reached", 1)) < 1:
        refusal = f" Annealing was not possible: {evidence['refusal']}." if evidence.get("refusal") else ""
        limit = f"the tolerance of {evidence['tolerance']:g} nats was not reached"
        found.append(f"For {100 * (1 - reached):.1f} % of the data {limit}.{refusal}")
    if not _finite(evidence.get("mean", 0.0)):
        found.append("The mean log-likelihood is not finite: some data have no weight, or a density that is no number.")
    return found


def _training_doubts(manifest: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[str]:
    if not history:
        return ["No epoch was finished."]
    found, stopped, best = [], manifest.get("stopped"), _kept(manifest, history)
    planned = (manifest.get("options") or {}).get("epochs")
    skipped = sum(int(record.get("skipped") or 0) for record in history)
    if skipped:
        found.append(f"{skipped:,} steps were skipped for a loss or gradient that was not finite.")
    if "validation" not in history[-1]:
        found.append("There were no validation data: the weights are those of the last epoch, not of the best one.")
    elif best > RECENT * len(history) and stopped != "patience":
        found.append(f"Validation was best in epoch {best} of {len(history)}: longer training may improve it further.")
    if stopped == "patience":
        found.append(f"Training stopped early, when validation had not improved since epoch {best}.")
    elif isinstance(planned, int) and len(history) < planned:
        reason = ENDINGS.get(str(stopped), "it was cut off, or is still going on")
        found.append(f"Training was to have {planned} epochs and has {len(history)}: {reason}.")
    return found


def _kept(manifest: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> int:
    """The epoch whose weights were kept: what the manifest says, else the best validation, else the last."""
    said = manifest.get("best_epoch")
    if isinstance(said, int) and 1 <= said <= len(history):
        return said
    scores = [record.get("validation") for record in history]
    finite = [(score, -number) for number, score in enumerate(scores, 1) if _finite(score)]
    return -max(finite)[1] if finite else len(history)


def _about(manifest: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """One line that says what the run is."""
    data, parts = manifest.get("data") or {}, []
    if data.get("name"):
        parts.append(str(data["name"]))
    if history:
        parts.append(f"{len(history)} epochs")
    if manifest.get("best_epoch"):
        parts.append(f"weights of epoch {manifest['best_epoch']}")
    if _finite(manifest.get("seconds")):
        parts.append(f"trained in {duration(manifest['seconds'])} on {manifest.get('device', 'an unknown device')}")
    return " · ".join(parts)


def _headline(evidence: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The figures that come first: (name, value, note)."""
    exact = evidence["kind"] == "exact"
    kind = f"nats; {evidence['kind']}" + (", in expectation" if evidence["kind"] == "lower bound" else "")
    mean, particles, data = (evidence[name] for name in ("mean", "mean_standard_error", "mean_sampling_error"))
    number = f"of {evidence['num_data']:,} data"
    doubtful = (evidence["sign"], f"{100 * evidence['share_unreliable']:.1f} %", number)
    units = ("of it, log-Jacobian", _number(evidence.get("log_jacobian"), 3), "nats: in the data's own units")
    rows = [
        *([] if exact else [doubtful]),
        *(
            [("tolerance reached", f"{100 * evidence['share_reached']:.1f} %", number)]
            if "tolerance" in evidence
            else []
        ),
        ("mean log p(x)", _number(mean, 3), kind),
        *([units] if evidence.get("log_jacobian") else []),
        *([] if exact else [("Monte Carlo error", _number(particles, 3), "nats, of the mean over these data")]),
        ("sampling error", _number(data, 3), "nats, of the mean over the population"),
    ]
    bits = evidence.get("bits_per_dim")
    if _finite(bits) and _finite(mean) and mean:
        scale = abs(bits / mean)  # 1 / (D log 2)
        known = (data,) if exact else (particles, data)
        errors = [_number(error * scale if _finite(error) else None, 4) for error in known]
        rows.append(("bits per dimension", _number(bits, 4), f"error{'s' * (len(errors) > 1)} {' and '.join(errors)}"))
    return rows


def _details(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("split", evidence.get("split", "unknown")),
        *((name, _number(evidence.get(key), digits)) for name, key, digits in DETAILS if _finite(evidence.get(key))),
        ("seed", "not set" if evidence.get("seed") is None else evidence["seed"]),
    ]
    if _finite(evidence.get("seconds")):
        rows.append(("time", duration(evidence["seconds"])))
    return [(name, str(value)) for name, value in rows]


def _methods(evidence: Mapping[str, Any] | None, others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """log p(x) by several methods, side by side."""
    rows = [
        (each["procedure"], [
            _number(each["mean"], 3), _number(each["mean_standard_error"], 3), _number(each["mean_sampling_error"], 3),
            f"{100 * each['share_unreliable']:.1f} %", each["kind"],
            duration(each["seconds"]) if _finite(each.get("seconds")) else "—",
        ])
        for each in ([evidence, *others] if evidence and others else [])
    ]  # fmt: skip
    columns = ["mean", "Monte Carlo error", "sampling error", "doubtful", "kind", "time"]
    return {"heading": "By every method", "corner": "nats per datum", "columns": columns, "rows": rows}


def _sandwiches(sandwiches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bounds on data simulated from the program."""
    names = ("mean_lower", "mean_upper", "gap_mean", "gap_standard_error", "gap_largest")
    rows = [
        (each["procedure"], [f"{each['num_data']:,}", *(_number(each[name], 3) for name in names)])
        for each in sandwiches
    ]
    columns = ["data", "mean lower bound", "mean upper bound", "mean gap", "error of it", "largest gap"]
    return {
        "heading": "Sandwich bounds on simulated data",
        "corner": "nats per datum",
        "columns": columns,
        "rows": rows,
    }


def _terms(manifest: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The terms of the objective in the first, the kept and the last epoch."""
    if not history:
        return {"columns": [], "rows": []}
    chosen = {"first": 1, "kept": _kept(manifest, history), "last": len(history)}
    columns = [f"{name} (epoch {history[epoch - 1]['epoch']})" for name, epoch in chosen.items()]
    records = [history[epoch - 1] for epoch in chosen.values()]
    rows = [
        (label, [_number(record.get(name), 0 if name == "skipped" else 3) for record in records])
        for name, label in TERMS.items()
        if any(record.get(name) is not None for record in records)
    ]
    return {"columns": columns, "rows": rows}


def _figure(heading: str, caption: str, draw: Callable[[], Figure]) -> dict[str, Any]:
    shown: dict[str, Any] = {"heading": heading, "caption": caption, "missing": ""}
    try:
        for name in ("light", "dark"):
            with theme(name), torch.random.fork_rng(devices=[]):  # both draw the same samples
                figure = draw()
            size = [round(100 * inches) for inches in figure.get_size_inches()]
            shown |= {name: _embedded(figure), "width": size[0], "height": size[1]}
    except PyrovaeError as error:
        shown["missing"] = str(error)
    return shown


def _embedded(figure: Figure) -> str:
    """A data URI: SVG where the figure holds curves; where it holds images PNG, or WebP where that would be large."""
    if any(axes.images for axes in figure.axes):
        exact = png(figure, dpi=DPI)
        return _uri("image/png", exact) if len(exact) < LARGE else _uri("image/webp", webp(figure, dpi=DPI))
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "pyrovae"}):  # else no two files would be equal
        figure.savefig(buffer, format="svg", dpi=DPI, metadata={"Date": None})
    return _uri("image/svg+xml", buffer.getvalue())


def _uri(kind: str, payload: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(payload).decode()}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of a nested mapping, one line each."""
    rows: list[tuple[str, str]] = []
    for name, value in tree.items():
        path = f"{prefix}{name}"
        rows += _flat(value, f"{path}.") if isinstance(value, Mapping) else [(path, _text(value))]
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return " × ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: Any, digits: int) -> str:
    return f"{value:,.{digits}f}".replace("-", "−") if _finite(value) else "—"
