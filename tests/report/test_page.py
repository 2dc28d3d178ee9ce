"""The page of a run: whole, in one file, escaped, and honest about what is missing."""

import base64
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

import pyrovae as pv
from pyrovae import report
from pyrovae.report.page import warnings

VOID = {"meta", "source", "img", "link", "br", "hr", "input"}
EVIL = "<script>alert('x')</script>&\"quoted\""
HISTORY: list[dict[str, Any]] = [
    {"epoch": e, "objective": -30.0 + e, "validation": -31.0 + e, "log_px_z": -25.0, "kl": 5.0 - e, "beta": 1.0,
     "grad_norm": 3.0, "skipped": e == 2, "seconds": 0.5} for e in (1, 2, 3)
]  # fmt: skip
EVIDENCE: dict[str, Any] = {
    "kind": "lower bound", "num_data": 400, "num_particles": 5000, "seed": 0, "pareto_k_threshold": 0.7,
    "share_unreliable": 0.125, "mean": -22.6125, "mean_standard_error": 0.0011, "mean_sampling_error": 0.171,
    "bits_per_dim": 22.6125 / (64 * math.log(2)), "ess_median": 812.3, "split": "test", "seconds": 12.0,
    "procedure": "importance sampling, 5,000 particles", "sign": "k-hat above 0.70", "doubt": "k-hat is above 0.70,",
}  # fmt: skip
MANIFEST: dict[str, Any] = {
    "options": {"epochs": 3, "batch_size": 128}, "environment": {"python": "3.11", "threads": 1}, "device": "cpu",
    "data": {"name": "digits", "splits": {"train": 1197}, "event_shape": [1, 8, 8], "fingerprint": "abcdef"},
    "seconds": 100.0, "best_epoch": 2, "stopped": "epochs",
}  # fmt: skip


class Page(HTMLParser):
    """Collects a page's elements, and refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text = " ".join([*self.text.split(), *data.split()])

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(**changes: Any) -> str:
    parts = {
        "title": "digits", "config": "seed: 0\n", "manifest": MANIFEST, "history": HISTORY, "evidence": EVIDENCE,
        "figures": [
            ("Samples", "Means of p(x | z).", lambda: report.images(torch.rand(4, 3, 8, 8))),
            ("Curve", "Objective.", lambda: report.learning_curve(HISTORY)),
        ],
    }  # fmt: skip
    return report.html(**{**parts, **changes})


def test_it_is_one_file_with_every_number_and_figure() -> None:
    found = Page(page())
    assert "12.5 % of 400 data" in found.text and "−22.613 nats; lower bound, in expectation" in found.text
    assert "0.001 nats" in found.text and "0.171 nats" in found.text
    assert f"{22.6125 / (64 * math.log(2)):.4f} errors 0.0000 and {0.171 / (64 * math.log(2)):.4f}" in found.text
    images, sources = found.all("img"), found.all("source")
    assert [i["alt"] for i in images] == ["Samples: Means of p(x | z).", "Curve: Objective."]
    kinds = ["image/png", "image/svg+xml"]
    for pictures, name in ((images, "src"), (sources, "srcset")):
        for element, kind in zip(pictures, kinds, strict=True):
            head, _, payload = str(element[name]).partition(",")
            assert head == f"data:{kind};base64" and len(base64.b64decode(payload, validate=True)) > 500
    for light, dark in zip(images, sources, strict=True):
        assert light["src"] != dark["srcset"] and dark["media"] == "screen and (prefers-color-scheme: dark)"
    assert len({tag for tag, _ in found.elements} & {"script", "link", "iframe", "object"}) == 0
    assert not [a for tag, a in found.elements if "href" in a]
    without_figures = re.sub(r"data:image/[^\"]*", "", page())
    assert "http" not in without_figures and "@import" not in without_figures and "url(" not in without_figures


def test_a_density_in_own_units_says_what_was_added() -> None:
    found = Page(page(evidence=EVIDENCE | {"log_jacobian": -3.25}, figures=[]))
    assert "of it, log-Jacobian −3.250 nats: in the data's own units" in found.text
    assert "log-Jacobian" not in Page(page(evidence=EVIDENCE | {"log_jacobian": 0.0}, figures=[])).text


def test_exact_values_have_neither_doubt_nor_monte_carlo_error() -> None:
    n = torch.full((3,), math.nan).double()
    exact = pv.Evidence(-torch.ones(3).double(), 0 * torch.ones(3), n, n, 0, 4, method="exact", is_bound=False)
    text = Page(page(evidence=exact.record(), figures=[])).text
    assert "By integration in closed form" in text and "nats; exact" in text
    for absent in ("k-hat", "Monte Carlo", "effective sample size", "errors"):
        assert absent not in text


def test_a_tolerance_says_where_it_was_not_reached() -> None:
    record = EVIDENCE | {"tolerance": 0.1, "share_reached": 0.75, "refusal": "no gradients"}
    text = Page(page(evidence=record, figures=[])).text
    assert "tolerance reached 75.0 % of 400 data" in text
    assert "For 25.0 % of the data the tolerance of 0.1 nats was not reached. Annealing was not possible" in text


def test_methods_and_sandwiches_stand_side_by_side() -> None:
    annealed = EVIDENCE | {"procedure": "annealing, 16 chains", "mean": -22.5, "share_unreliable": 0.0}
    bounds = pv.evidence.Sandwich(*torch.tensor([[-2.0, -1.0], [-1.5, -0.75], [0.0, 0.0]]), None, (), "annealed", 4, 9)
    text = Page(page(others=[annealed], sandwiches=[bounds.record()], figures=[])).text
    assert "importance sampling, 5,000 particles −22.613 0.001 0.171 12.5 % lower bound" in text
    assert "annealing, 16 chains −22.500 0.001 0.171 0.0 % lower bound" in text
    assert "4 chains of 9 steps 2 −1.500 −1.125 0.375" in text
    assert "By every method" not in Page(page(figures=[])).text


def test_the_evidence_of_one_datum_has_a_page() -> None:
    one = torch.ones(1).double()
    record = pv.Evidence(-one, one, one, 0 * one, num_particles=100, num_dimensions=4).record()
    assert record["mean_sampling_error"] is None
    json.dumps(record, allow_nan=False)
    assert "sampling error — nats" in Page(page(evidence=record, figures=[])).text


def test_a_page_of_colourful_noise_stays_small() -> None:
    figures = [("Samples", "Noise.", lambda: report.images(torch.rand(64, 3, 32, 32)))] * 4
    text = page(figures=figures)
    assert "data:image/webp" in text and len(text) < 3e6


def test_light_and_dark_show_the_same_samples() -> None:
    drawn: list[torch.Tensor] = []

    def draw() -> Any:
        drawn.append(torch.rand(1, 1, 8, 8))
        return report.images(drawn[-1])

    page(figures=[("Samples", "Random.", draw)])
    assert drawn[0].equal(drawn[1])


def test_it_is_the_same_page_every_time() -> None:
    figures = [("Curve", "Objective.", lambda: report.learning_curve(HISTORY))]
    assert page(figures=figures) == page(figures=figures)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": EVIL},
        {"config": EVIL},
        {"manifest": MANIFEST | {"data": {EVIL: EVIL, "name": EVIL}, "options": {"objective": EVIL}}},
        {"evidence": EVIDENCE | {"split": EVIL, "kind": EVIL}},
        {"figures": [(EVIL, EVIL, lambda: report.images(torch.rand(1, 1, 2, 2)))]},
    ],
)
def test_names_are_text_and_never_markup(changes: dict[str, Any]) -> None:
    text = page(**changes)
    found = Page(text)
    assert not found.all("script") and "<script" not in text and EVIL in found.text + str(found.all("img"))


def test_before_evaluation_it_says_how_to() -> None:
    found = Page(page(evidence=None))
    assert "has not been evaluated yet" in found.text and "pyrovae evaluate RUN" in found.text
    assert "Monte Carlo" not in found.text


def test_a_figure_that_cannot_be_drawn_is_named_with_its_reason() -> None:
    def refused() -> Any:
        raise pv.PyrovaeError("these are tables")

    found = Page(page(figures=[("Samples", "Images.", refused)]))
    assert "Not drawn: these are tables" in found.text and not found.all("img")


def test_a_run_that_has_only_begun_has_a_page() -> None:
    found = Page(page(manifest={}, history=[], evidence=None, figures=[]))
    assert "No epoch was finished." in found.text and not found.all("figure")


def test_terms_of_the_first_the_kept_and_the_last_epoch() -> None:
    text = Page(page(figures=[])).text
    assert "first (epoch 1) kept (epoch 2) last (epoch 3)" in text
    assert "objective, validation −30.000 −29.000 −28.000" in text and "KL to the prior 4.000 3.000 2.000" in text


@pytest.mark.parametrize(
    ("manifest", "history", "evidence", "message"),
    [
        (MANIFEST, HISTORY, EVIDENCE, "For 12.5 % of the data k-hat is above 0.70: no coverage is claimed"),
        (MANIFEST, HISTORY, EVIDENCE | {"mean": -math.inf}, "is not finite"),
        (MANIFEST, HISTORY, None, "1 steps were skipped"),
        (MANIFEST | {"best_epoch": 3}, HISTORY, None, "best in epoch 3 of 3: longer training may"),
        (MANIFEST | {"best_epoch": 96}, HISTORY[:1] * 100, None, "best in epoch 96 of 100: longer training may"),
        ({}, HISTORY, None, "best in epoch 3 of 3: longer training may"),
        (MANIFEST | {"stopped": "patience"}, HISTORY, None, "had not improved since epoch 2"),
        ({"options": {"epochs": 9}}, HISTORY, None, "was to have 9 epochs and has 3: it was cut off"),
        (MANIFEST | {"stopped": "interrupted", "options": {"epochs": 9}}, HISTORY, None, "has 3: it was interrupted."),
        (MANIFEST | {"stopped": "aborted", "options": {"epochs": 9}}, HISTORY, None, "has 3: an error ended it."),
        (MANIFEST, [{"epoch": 1, "objective": -1.0}], None, "no validation data"),
    ],
)
def test_what_a_reader_should_know_is_said(manifest: Any, history: Any, evidence: Any, message: str) -> None:
    assert any(message in warning for warning in warnings(manifest, history, evidence))


def test_a_sound_run_has_no_warnings() -> None:
    sound = [record | {"skipped": 0} for record in HISTORY]
    assert warnings(MANIFEST, sound, EVIDENCE | {"share_unreliable": 0.0}) == []
