"""The version of this package: it stands here alone, and the build reads it from here."""

__version__ = "0.2.0"
