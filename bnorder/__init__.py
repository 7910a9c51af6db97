"""Should batch normalisation come before or after the activation? The library of the study."""

__version__ = "1.1.0"
