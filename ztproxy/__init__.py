"""ztproxy: an identity-aware access proxy for teams on AWS."""

__version__ = "0.1.0"
