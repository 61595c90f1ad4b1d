"""Typed configuration, read in one place: `load` gives a `Config` or a `ConfigError` with every problem."""

from ztproxy.config.load import load
from ztproxy.config.models import Config
from ztproxy.config.references import EnvReference, FileReference, SecretReference, Unresolvable
from ztproxy.config.routes import routes_of

__all__ = ["Config", "EnvReference", "FileReference", "SecretReference", "Unresolvable", "load", "routes_of"]
