"""Addresses: what one is (syntax, headers), how it is rewritten (rewriting), and where its mail goes (resolve)."""
