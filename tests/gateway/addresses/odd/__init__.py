"""Odd addresses, and what Postfix 3.7 makes of them in several configurations; ``record`` asks it again."""
