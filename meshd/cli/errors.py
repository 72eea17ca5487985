"""How a command fails: with a message to the person who called it."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot do what it was asked; the message says what is wrong and what to do."""
