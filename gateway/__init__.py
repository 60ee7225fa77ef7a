"""A mail gateway on Twisted that reads Postfix's configuration."""

__version__ = "0.1.0"
