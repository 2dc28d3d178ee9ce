"""NumPyro: an epoch, shuffling and binarization included, is one compiled ``lax.scan`` over data kept on the device.

On CPUs XLA's convolutions are several times slower inside a loop of its own, so the conv network is trained by one
compiled step after another.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import torch
from numpyro.infer import SVI, RenyiELBO, Trace_ELBO
from torch import nn
from work import MIN_SCALE, RATE, Trained, networks, restored

IMAGES = ("NHWC", "HWIO", "NHWC")  # the layout that XLA is fastest with


def train(work, pixels, weights, seed):
    """Jitted epochs of ``SVI.update``."""
    svi, epoch = compiled(work)
    key = jax.random.PRNGKey(seed)
    pixels = jnp.asarray(pixels.numpy())
    state = svi.init(key, pixels[: work.batch])
    state = state._replace(optim_state=svi.optim.init(to_jax(*restored(work, weights))))
    seconds = []
    for number in range(work.epochs):
        begin = time.perf_counter()
        state, loss = epoch(state, pixels, jax.random.fold_in(key, number))
        loss.block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return Trained(seconds, to_torch(work, svi.get_params(state)))


@functools.cache  # a later round compiles nothing again
def compiled(work):
    """The inference of this work and its epoch, compiled at the first call."""
    encoder, decoder = networks(work)
    begin = to_jax(encoder, decoder)
    encode, decode = forward(encoder), forward(decoder)

    def model(x):
        weights = numpyro.param("decoder", begin["decoder"])
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(work.latent), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(weights, z)).to_event(1), obs=x)

    def guide(x):
        loc, raw = jnp.split(encode(numpyro.param("encoder", begin["encoder"]), x), 2, -1)
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.Normal(loc, jax.nn.softplus(raw) + MIN_SCALE).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(RATE), objective(work.particles))

    def step(carry, index):
        state, key, pixels = carry
        key, now = jax.random.split(key)
        x = jax.random.bernoulli(now, pixels[index]).astype(pixels.dtype)
        state, loss = svi.update(state, x)
        return (state, key, pixels), loss

    @jax.jit
    def shuffled(key, pixels):
        return jax.random.permutation(key, len(pixels)).reshape(work.steps, work.batch)

    def scanned(state, pixels, key):
        order_key, key = jax.random.split(key)
        (state, _, _), losses = jax.lax.scan(step, (state, key, pixels), shuffled(order_key, pixels))
        return state, losses.sum()

    one = jax.jit(step)

    def stepwise(state, pixels, key):
        order_key, key = jax.random.split(key)
        carry, total = (state, key, pixels), 0.0
        for index in shuffled(order_key, pixels):
            carry, loss = one(carry, index)
            total = total + loss
        return carry[0], total

    return svi, stepwise if work.network == "conv network" else jax.jit(scanned)


def objective(particles):
    """NumPyro's loss; both are vectorized over particles."""
    return Trace_ELBO() if particles == 1 else RenyiELBO(alpha=0, num_particles=particles)


def forward(network):
    """A function (weights, v) of the layers of a torch network, for any number of leading dimensions."""
    layers = list(network)

    def run(weights, v):
        weights = iter(weights)
        for layer in layers:
            v = apply(layer, v, weights)
        return v

    return run


def apply(layer, v, weights):
    """One layer; an image is (..., H, W, C) here, and channels come first where it is made flat, as in torch."""
    match layer:
        case nn.ReLU():
            return jax.nn.relu(v)
        case nn.SiLU():
            return jax.nn.silu(v)
        case nn.Linear():
            return v @ next(weights) + next(weights)
        case nn.Unflatten():
            return jnp.moveaxis(v.reshape(*v.shape[:-1], *layer.unflattened_size), -3, -1)
        case nn.Flatten():
            return jnp.moveaxis(v, -1, -3).reshape(*v.shape[:-3], -1)
        case nn.ConvTranspose2d(output_padding=(more, _)):
            padding = [(1, 1 + more)] * 2  # kernel - 1 - padding = 1 on either side
            dilation = {"window_strides": (1, 1), "lhs_dilation": layer.stride}
            return convolve(v, weights, padding=padding, **dilation)
        case nn.Conv2d():
            return convolve(v, weights, padding=[(1, 1)] * 2, window_strides=layer.stride)
    raise TypeError(f"no translation of {layer}")


def convolve(v, weights, **options):
    """A convolution over the images of all leading dimensions."""
    rows = v.reshape(-1, *v.shape[-3:])
    out = jax.lax.conv_general_dilated(rows, next(weights), dimension_numbers=IMAGES, **options) + next(weights)
    return out.reshape(*v.shape[:-3], *out.shape[1:])


def to_jax(encoder, decoder):
    """The weights of two torch networks, as NumPyro's parameters."""
    parts = {"encoder": encoder, "decoder": decoder}
    return {
        name: [jnp.asarray(w.detach().numpy()) for layer in network for w in turned(layer, layer.parameters())]
        for name, network in parts.items()
    }


def turned(layer, weights, back=False):
    """A layer's weight and bias in JAX's layout, or back in torch's."""
    weights = list(weights)
    if isinstance(layer, nn.Linear):
        weights[0] = weights[0].T
    elif isinstance(layer, nn.ConvTranspose2d):  # (in, out, H, W), and the kernel is turned around
        weights[0] = weights[0].flip(0, 1).permute(2, 3, 0, 1) if back else weights[0].permute(2, 3, 0, 1).flip(0, 1)
    elif isinstance(layer, nn.Conv2d):
        weights[0] = weights[0].permute((3, 2, 0, 1) if back else (2, 3, 1, 0))
    return weights


def to_torch(work, params):
    """Weights in the order of the torch networks."""
    weights = []
    for network, name in zip(networks(work), ("encoder", "decoder"), strict=True):
        values = iter([torch.tensor(jax.device_get(value)) for value in params[name]])
        for layer in network:
            weights += turned(layer, [next(values) for _ in layer.parameters()], back=True)
    return weights
