"""Where files are looked for, and that none is used unless it is what was published (FAULTS 33 to 36)."""

import hashlib
import threading
from collections.abc import Callable
from functools import partial
from http.client import IncompleteRead
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from torchvision import datasets
from torchvision.datasets.utils import download_url

from pyrovae.data import load
from pyrovae.errors import PyrovaeError

RAW = Path("MNIST", "raw")
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
Write = Callable[[Path, dict[str, bytes]], Path]
HTML = b"<html>please log in to this network</html>"


def downloader(monkeypatch: pytest.MonkeyPatch, save: Callable[[str, Path], None]) -> list[str]:
    """Replace torchvision's helper by ``save(url, path)``; the list returned fills with the addresses asked for."""
    asked: list[str] = []

    def download(url: str, root: str, filename: str, **kwargs: Any) -> None:
        asked.append(url)
        Path(root).mkdir(parents=True, exist_ok=True)
        save(url, Path(root, filename))

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    return asked


def whole(published: dict[str, bytes], url: str, path: Path) -> None:
    """A download that succeeds."""
    path.write_bytes(published[url.rsplit("/")[-1]])


@pytest.mark.parametrize("by_argument", [True, False])
def test_places_in_order(
    published: dict[str, bytes],
    write: Write,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    by_argument: bool,
) -> None:
    local = tmp_path / "local"
    monkeypatch.setenv("PYROVAE_DATA", str(tmp_path / "nowhere" if by_argument else local))
    root = local if by_argument else None
    for place in (cache, local, local / "torchvision"):  # the last that is looked at comes first, and is then spoiled
        write(place / RAW, published)
        assert len(load("mnist", root=root).test.x) == 10
        write(place / RAW, {LABELS: HTML})
        with pytest.raises(PyrovaeError, match="md5") as error:
            load("mnist", root=root)
        assert str(error.value).startswith(f"{place / RAW / LABELS}:")


def test_root_replaces_the_environment(
    published: dict[str, bytes], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "env" / RAW, published)
    monkeypatch.setenv("PYROVAE_DATA", str(tmp_path / "env"))
    load("mnist", download=False)
    with pytest.raises(PyrovaeError, match="download=False"):
        load("mnist", root=tmp_path / "elsewhere", download=False)


SPOIL: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda raw: raw[:-100],
    "empty": lambda raw: b"",
    "html": lambda raw: HTML,
    "one flipped bit": lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
    "trailing byte": lambda raw: raw + b"\x00",
}


@pytest.mark.parametrize("spoil", SPOIL.values(), ids=SPOIL.keys())
def test_wrong_bytes_are_refused_before_parsing(
    published: dict[str, bytes],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[bytes], bytes],
) -> None:
    raw = spoil(published[IMAGES])
    folder = write(tmp_path / RAW, published | {IMAGES: raw})
    monkeypatch.setattr("pyrovae.data.idx_images.parse_gz", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(PyrovaeError, match="delete it") as error:
        load("mnist", root=tmp_path)
    for part in (str(folder / IMAGES), *(hashlib.md5(b).hexdigest() for b in (raw, published[IMAGES]))):
        assert part in str(error.value)


def test_a_file_that_cannot_be_read(published: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / RAW / IMAGES).mkdir(parents=True)
    with pytest.raises(PyrovaeError, match=f"{IMAGES}: cannot be read"):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize("prefix", ["train", "t10k"])
@pytest.mark.parametrize("count", [9, 31])
def test_counts_that_differ(
    publish: Callable[..., dict[str, bytes]], write: Write, tmp_path: Path, prefix: str, count: int
) -> None:
    write(tmp_path / RAW, publish(labels={prefix: count}))
    with pytest.raises(PyrovaeError, match=f"{prefix}-images.*images but {count} labels"):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_nothing_cached_and_no_network(name: str, cache: Path) -> None:
    with pytest.raises(PyrovaeError, match=r'no network.*pyrovae\.data\.load\("digits"\).*PYROVAE_DATA'):
        load(name)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_absent_and_download_not_wanted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = downloader(monkeypatch, lambda url, path: None)
    with pytest.raises(PyrovaeError, match=r"download=False.*PYROVAE_DATA") as error:
        load("mnist", download=False)
    assert str(cache / RAW) in str(error.value)
    assert not asked
    assert not cache.exists()


def test_download_goes_to_the_cache_alone_and_once(
    published: dict[str, bytes], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("PYROVAE_DATA", str(tmp_path / "data"))
    asked = downloader(monkeypatch, partial(whole, published))
    first, second = load("mnist"), load("mnist", download=False)
    assert first.fingerprint == second.fingerprint == hashlib.sha256(b"".join(published.values())).hexdigest()
    assert asked == [datasets.MNIST.mirrors[0] + name for name in published]
    assert {path.name: path.read_bytes() for path in (cache / RAW).iterdir()} == published
    assert not list((tmp_path / "data").iterdir())


class Killed(BaseException):
    """What no library catches."""


@pytest.mark.parametrize(
    "fault", [None, URLError("reset"), ConnectionResetError(), IncompleteRead(b""), RuntimeError(), Killed()], ids=repr
)
def test_an_interrupted_download_is_never_used(
    published: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException | None
) -> None:
    def half(url: str, path: Path) -> None:
        path.write_bytes(published[url.rsplit("/")[-1]][:200])
        assert path.name not in published, "a half-written file has a whole one's name"
        if fault is not None:
            raise fault

    downloader(monkeypatch, half)
    with pytest.raises(Killed if isinstance(fault, Killed) else PyrovaeError):
        load("mnist")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_what_a_killed_process_left_is_never_read(
    published: dict[str, bytes], write: Write, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache / RAW, {f".{name}.0.part": raw[:200] for name, raw in published.items()})
    with pytest.raises(PyrovaeError, match="download=False"):
        load("mnist", download=False)
    downloader(monkeypatch, partial(whole, published))
    assert len(load("mnist").train.x) == 20


def test_the_next_mirror_is_tried(published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["a://login/", "b://good/"])

    def save(url: str, path: Path) -> None:
        whole(dict.fromkeys(published, HTML) if url.startswith("a:") else published, url, path)

    asked = downloader(monkeypatch, save)
    load("mnist")
    assert asked[:2] == [f"a://login/{IMAGES}", f"b://good/{IMAGES}"]


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    with pytest.raises(PyrovaeError, match="XDG_CACHE_HOME"):
        load("mnist")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def test_torchvisions_own_helper(
    published: dict[str, bytes], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper as it is, served by this process: its signature is torchvision's to change."""
    folder = write(tmp_path / "served", published)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        assert len(load("mnist").train.x) == 20
        server.shutdown()
