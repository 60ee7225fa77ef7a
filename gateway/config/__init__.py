"""Configuration: main.cf, master.cf, the one table of parameters, and what is wrong with them.

    configuration = load(Path("/etc/mailgateway"))
    configuration.settings.text("myhostname")
    configuration.service("smtp", "inet")
"""

from gateway.config.configuration import Configuration, from_texts, load, read
from gateway.config.findings import ConfigError, Finding
from gateway.config.master_cf import Service
from gateway.config.settings import Settings

__all__ = ["ConfigError", "Configuration", "Finding", "Service", "Settings", "from_texts", "load", "read"]
