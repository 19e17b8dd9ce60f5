"""The version, also where the package is not installed but only shipped as a working directory."""

__version__ = "0.1.0"
