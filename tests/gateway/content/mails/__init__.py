"""Mails through cleanup in many configurations, and what Postfix 3.7 makes of them; ``record`` asks it again."""
