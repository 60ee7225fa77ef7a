"""Configuration: main.cf, master.cf, the one table of parameters, and what is wrong with them."""

from gateway.config.findings import ConfigError, Finding
from gateway.config.master_cf import Service
from gateway.config.settings import Settings

__all__ = ["ConfigError", "Finding", "Service", "Settings"]
