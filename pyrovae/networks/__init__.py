"""Networks: free of batch shape, aware of the event shapes of what goes in and out.

A network's ``in_shapes`` are the event shapes of its parents and ``out_shape`` that of its output; every dimension
further left is batch, of any number. An ``int`` stands for a vector; several parents are given as a list of shapes,
are broadcast against each other and joined: ``MLP([40, 10], 300, (1, 28, 28))`` reads z and y. ``BatchFree`` makes such
a network of any module; ``pyrovae.readings`` says how labels, tokens and counts are read.
"""

from pyrovae.networks.base import Constant, Network, Shape, as_shape, as_shapes, join
from pyrovae.networks.batch_free import BatchFree
from pyrovae.networks.convolutional import ConvDecoder, ConvEncoder
from pyrovae.networks.dense import MLP, GatedMLP
from pyrovae.networks.masked import MaskedMLP
from pyrovae.networks.recurrent import RecurrentDecoder, RecurrentEncoder
from pyrovae.networks.residual import ResidualConvDecoder, ResidualConvEncoder, ResidualMLP

__all__ = [
    "MLP",
    "BatchFree",
    "Constant",
    "ConvDecoder",
    "ConvEncoder",
    "GatedMLP",
    "MaskedMLP",
    "Network",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "ResidualConvDecoder",
    "ResidualConvEncoder",
    "ResidualMLP",
    "Shape",
    "as_shape",
    "as_shapes",
    "join",
]
