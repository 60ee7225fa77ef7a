"""Notices: delivery status notifications, and what the postmaster hears."""
