"""Plug-ins of each kind for the mail gateway, to be copied and changed."""
