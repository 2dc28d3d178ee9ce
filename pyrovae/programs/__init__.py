"""Programs: objects with ``model(x, *given)`` and ``guide(x, *given)``, their data plate at dim -1."""

from pyrovae.programs.vae import VAE

__all__ = ["VAE"]
