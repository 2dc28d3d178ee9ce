"""Text: Shakespeare as sequences of characters, 20 newsgroups as counts of words."""

import io
import zipfile

import torch

from pyrovae.data import files
from pyrovae.data.bag_of_words import parse, parse_words
from pyrovae.data.files import Root
from pyrovae.data.partition import Share, held_out, sizes
from pyrovae.data.pixels import digest
from pyrovae.data.splits import Data, Split
from pyrovae.errors import PyrovaeError

SHAKESPEARE_FILE = files.Published(
    "tiny_shakespeare",
    ("text/tinyshakespeare.txt",),
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
NEWSGROUPS_FILE = files.Published(
    "20newsgroups",
    ("text/20ng.zip",),
    (
        "https://raw.githubusercontent.com/jiacheng-xu/vmf_vae_nlp/"
        "a990b495060ac1b7fefdef51acd9934304266efb/data/20ng.zip",
    ),
    "sha256:09b37cd9a4e02a42ad84f7141c2b7431ffd07abb2b50585af81efbf35de66c48",
)
GROUPS = (
    "alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware", "comp.sys.mac.hardware",
    "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles", "rec.sport.baseball", "rec.sport.hockey",
    "sci.crypt", "sci.electronics", "sci.med", "sci.space", "soc.religion.christian", "talk.politics.guns",
    "talk.politics.mideast", "talk.politics.misc", "talk.religion.misc",
)  # fmt: skip


def tiny_shakespeare(
    *,
    seed: int = 0,
    validation: Share = 0.05,
    test: Share = 0.05,
    size: int | tuple[int, int] = 64,
    root: Root = None,
    download: bool = True,
) -> Data:
    """1.1 million characters of Shakespeare in sequences, x of shape (N, size) int64, split 90/5/5 by position.

    The text is cut into sequences of ``size`` characters, one after another, a rest that does not fill one left out;
    the last are for testing, those before for validation. ``Data.levels`` are the 65 characters in order, so that
    ``"".join(data.levels[i] for i in row)`` is the text of a row. Nothing is random. Source: Karpathy (2015), "The
    unreasonable effectiveness of recurrent neural networks".

    Args:
        validation, test: how many sequences are held out; a float is a fraction of all.
        size: the number of characters in a sequence.
        seed, root, download: as for every data set; ``root`` is a folder with ``text/tinyshakespeare.txt``.

    Raises:
        PyrovaeError: a size that is not positive, or leaves no sequence for a split; a file that is absent or altered.
    """
    raw = files.read(SHAKESPEARE_FILE, root=root, download=download)
    if not isinstance(size, int) or not 0 < size <= len(raw):
        raise PyrovaeError(f"size={size}: the length of a sequence, from 1 to the {len(raw):,} characters there are")
    levels = sorted(set(raw))  # ASCII: a byte is a character
    codes = torch.zeros(256, dtype=torch.int64)
    codes[levels] = torch.arange(len(levels))
    text = codes[torch.frombuffer(bytearray(raw), dtype=torch.uint8).long()]
    x = text[: len(text) // size * size].reshape(-1, size)
    train, held, tested = map(Split, x.split(sizes(len(x), validation=validation, test=test)))
    names = tuple(chr(i) for i in levels)
    return Data("tiny_shakespeare", train, held, tested, "none", seed, digest(raw), kind="tokens", levels=names)


def newsgroups(
    *,
    seed: int = 0,
    validation: Share = 1_000,
    root: Root = None,
    download: bool = True,
) -> Data:
    """20 newsgroups as counts of the 2,000 most frequent words, x of shape (N, 2000), 10,268/1,000/7,505 documents.

    ``Data.columns`` are the words, the labels the 20 groups. The validation split is taken from the official training
    documents by a permutation from ``seed``. Source: Lang (1995), "NewsWeeder: learning to filter netnews"; as counted
    for Miao, Yu and Blunsom (2016), "Neural variational inference for text processing".

    Args:
        validation: how many of the 11,268 training documents are held out; a float is a fraction of them.
        seed, root, download: as for every data set; ``root`` is a folder with ``text/20ng.zip``.

    Raises:
        PyrovaeError: a file that is absent, altered or malformed.
    """
    raw = files.read(NEWSGROUPS_FILE, root=root, download=download)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:  # its checksum was right
        words = parse_words(archive.read("20ng/vocab.new"), name="vocab.new")
        (x, labels), (test, test_labels) = (
            parse(archive.read(f"20ng/{part}.feat"), num_words=len(words), num_groups=len(GROUPS), name=f"{part}.feat")
            for part in ("train", "test")
        )
    kept, held = held_out(len(x), validation, generator=torch.Generator("cpu").manual_seed(seed))
    return Data(
        "20newsgroups", Split(x[kept], labels[kept]), Split(x[held], labels[held]), Split(test, test_labels), "none",
        seed, digest(raw), kind="counts", classes=GROUPS, columns=words,
    )  # fmt: skip
