"""Mail from UUCP neighbours: what rmail and rsmtp make of it, and what a neighbour may do."""
