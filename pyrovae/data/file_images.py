"""Images from single files: static MNIST, OMNIGLOT-28 (reconstructed) and the Frey faces."""

import io

import numpy as np
import torch

from pyrovae.data import files
from pyrovae.data.amat import parse
from pyrovae.data.binarization import check_binarization
from pyrovae.data.files import Root
from pyrovae.data.npy import check_array, parse_npz
from pyrovae.data.partition import Share, held_out, shuffled
from pyrovae.data.pixels import as_grey, digest, image_data
from pyrovae.data.splits import Data
from pyrovae.errors import PyrovaeError

BITS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
BITS_FILES = {  # the sha256 of the text, whether it lies there gzip-compressed or not
    part: files.Published(
        "binarized_mnist",
        (f"binarized_mnist/binarized_mnist_{part}.amat.gz", f"binarized_mnist/binarized_mnist_{part}.amat"),
        (f"{BITS}binarized_mnist_{part}.amat",),
        f"sha256:{checksum}",
        files.gunzipped,
    )
    for part, checksum in (
        ("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        ("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        ("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    )
}
OMNIGLOT_FILE = files.Published(
    "OMNIGLOT-28 (reconstructed)",
    ("omniglot28/omniglot28.npz",),
    (),
    "sha256:4e3c1ac0e574b74f2377ef6750588c3e7ef15482093c9734ff5874e70384dd3e",
    instructions="put omniglot28.npz, with the checksum that `pyrovae data` shows, into a folder omniglot28 and set "
    "PYROVAE_DATA to the folder that holds that one; or load drawings of your own, resized to 28 x 28, as a folder of "
    "images",
)


def _pixels(raw: bytes, name: str) -> bytes:
    """The pixels of the Frey faces, in film order, from the published .mat or from a .npz."""
    if name.endswith(".npz"):
        return check_array(parse_npz(raw, name=name), "x", (1965, 28, 20), "uint8", name=name).tobytes()
    from scipy.io import loadmat

    try:
        faces = loadmat(io.BytesIO(raw), variable_names=["ff"])["ff"]
    except Exception as error:  # whatever a reader of a strange file raises
        raise PyrovaeError(f"{name}: not a .mat file with the faces ff ({error})") from error
    return np.ascontiguousarray(faces.T).tobytes()


FACES_FILE = files.Published(  # the checksum is that of the pixels
    "freyfaces",
    ("freyfaces/freyfaces.npz", "freyfaces/frey_rawface.mat"),
    ("https://cs.nyu.edu/~roweis/data/frey_rawface.mat", "http://www.cs.nyu.edu/~roweis/data/frey_rawface.mat"),
    "sha256:2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78",
    _pixels,
)


def binarized_mnist(*, seed: int = 0, root: Root = None, download: bool = True) -> Data:
    """MNIST with the bits that Larochelle and Murray fixed, x of shape (N, 1, 28, 28), 50,000/10,000/10,000.

    The bits are part of the data, so nothing is drawn: binarization is "static" and ``seed`` is of no account. There
    are no labels. Source: Salakhutdinov and Murray (2008), "On the quantitative analysis of deep belief networks";
    Larochelle and Murray (2011), "The neural autoregressive distribution estimator".

    Args:
        root: a folder with ``binarized_mnist/binarized_mnist_{train,valid,test}.amat``, with or without ``.gz``; else
            that of PYROVAE_DATA.
        download: as for :func:`mnist`.

    Raises:
        PyrovaeError: a file that is absent, altered or malformed.
    """
    raw = {key: files.read(file, root=root, download=download) for key, file in BITS_FILES.items()}
    x = [parse(text, width=784, name=BITS_FILES[key].name).reshape(-1, 1, 28, 28).float() for key, text in raw.items()]
    return image_data(
        "binarized_mnist", x, [None] * 3, binarization="static", seed=seed, fingerprint=digest(*raw.values())
    )


def omniglot28(
    *,
    binarization: str = "dynamic",
    seed: int = 0,
    validation: Share = 1345,
    root: Root = None,
    download: bool = True,
) -> Data:
    """OMNIGLOT-28 (reconstructed): handwritten characters, x of shape (N, 1, 28, 28), 23,000/1,345/8,070.

    A reconstruction of the split that Burda, Grosse and Salakhutdinov (2016) used; not their file, so that figures
    may differ a little. The labels are the 50 alphabets. There is no public download. Source: Lake, Salakhutdinov and
    Tenenbaum (2015), "Human-level concept learning through probabilistic program induction".

    Args:
        validation: how many of the 24,345 training images are held out, by a permutation from ``seed`` since they are
            in the order of the alphabets; a float is a fraction of them. 1,345 as Tomczak and Welling (2018).
        binarization, seed, root, download: as for :func:`mnist`.

    Raises:
        PyrovaeError: as :func:`mnist`.
    """
    check_binarization(binarization)
    raw = files.read(OMNIGLOT_FILE, root=root, download=download)
    arrays, name = parse_npz(raw, name="omniglot28.npz"), "omniglot28.npz"
    x, labels = (
        [torch.from_numpy(check_array(arrays, f"{key}_{part}", (count, *shape), "uint8", name=name))
         for part, count in (("train", 24_345), ("test", 8_070))]
        for key, shape in (("x", (28, 28)), ("alphabet", ()))
    )  # fmt: skip
    generator = torch.Generator("cpu").manual_seed(seed)
    train, validate = held_out(len(x[0]), validation, generator=generator)
    return image_data(
        OMNIGLOT_FILE.dataset,
        [as_grey(part.unsqueeze(1)) for part in (x[0][train], x[0][validate], x[1])],
        [labels[0][train].long(), labels[0][validate].long(), labels[1].long()],
        binarization=binarization, seed=seed, generator=torch.Generator("cpu").manual_seed(seed),
        classes=[str(alphabet) for alphabet in arrays["alphabet_names"]], fingerprint=digest(raw),
    )  # fmt: skip


def freyfaces(
    *,
    binarization: str = "none",
    seed: int = 0,
    validation: Share = 200,
    test: Share = 200,
    root: Root = None,
    download: bool = True,
) -> Data:
    """The Frey faces: 1,965 frames of a film, x of shape (N, 1, 28, 20) in [0, 1], split 1,565/200/200.

    The split is a permutation from ``seed``, in the sizes of Tomczak and Welling (2018), "VAE with a VampPrior"; as
    neighbouring frames are alike, a test frame has close relatives in the training split. There are no labels.

    Args:
        binarization, seed, download: as for :func:`mnist`.
        validation, test: how many frames are held out; a float is a fraction of all.
        root: a folder with ``freyfaces/frey_rawface.mat`` or ``freyfaces/freyfaces.npz``; else that of PYROVAE_DATA.

    Raises:
        PyrovaeError: as :func:`mnist`.
    """
    check_binarization(binarization)
    raw = files.read(FACES_FILE, root=root, download=download)
    x = as_grey(torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(-1, 1, 28, 20))
    generator = torch.Generator("cpu").manual_seed(seed)
    parts = shuffled(len(x), validation=validation, test=test, generator=generator)
    return image_data(
        "freyfaces", [x[part] for part in parts], [None] * 3,
        binarization=binarization, seed=seed, generator=generator, fingerprint=digest(raw),
    )  # fmt: skip
