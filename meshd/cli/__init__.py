"""The meshd command."""
