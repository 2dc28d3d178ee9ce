"""A run on one page."""

import json
import re
from pathlib import Path

from runs import Command, copied

HEADINGS = ["Training", "Samples", "Reconstructions", "Latent space", "Active units", "Traversals", "Prior", "Manifold"]


def test_a_report_holds_figures_config_and_evidence(pyrovae: Command, evaluated: Path) -> None:
    run = copied(evaluated)
    code, out, _ = pyrovae("report", run)
    assert code == 0 and f"written: {run / 'report.html'}" in out
    page = (run / "report.html").read_text()
    for heading in [*HEADINGS, "Log-likelihood", "Importance weights"]:
        assert f">{heading}<" in page
    assert "pyrovae.recipes.Dense" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # nothing from outside


def test_a_report_before_evaluation(pyrovae: Command, conditional: Path) -> None:
    code, out, _ = pyrovae("report", conditional, "--output", "page.html")
    assert code == 0 and "was not evaluated on its test data; first: pyrovae evaluate" in out
    page = Path("page.html").read_text()
    assert ">Conditions<" in page and ">Importance weights<" not in page


def test_evidence_of_other_data_or_weights_is_left_out(pyrovae: Command, evaluated: Path) -> None:
    run = copied(evaluated)
    assert pyrovae("evaluate", run, "--method", "annealed", "--num_particles", 4, "--num_steps", 3)[0] == 0
    before = json.loads((run / "evidence.json").read_text())
    files = {"data_sha256": "of other data than that by", "program_sha256": "of other weights than the run's now"}
    for key, message in files.items():
        (run / "evidence.json").write_text(json.dumps(before | {key: "0"}))
        code, out, _ = pyrovae("report", run)
        assert code == 0 and out.count("the log-likelihood is left out") == 1 and message in out
        assert "By every method" not in (run / "report.html").read_text()


def test_the_same_run_gives_the_same_page(pyrovae: Command, trained: Path) -> None:
    for name in ("a.html", "b.html"):
        assert pyrovae("report", trained, "--output", name)[0] == 0
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()
