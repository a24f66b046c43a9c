"""Runbooks carried out step by step: path + parameters → Runbook → Plan → Events → Run → text."""

__version__ = "0.1.0"
