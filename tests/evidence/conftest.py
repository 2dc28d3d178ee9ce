"""What tests of evidence share."""

from __future__ import annotations

import pytest
from captured import Captured


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Captured:
    backend = Captured()
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: backend)
    return backend
