"""Milters: programs that look at mail by the Sendmail mail filter protocol while it is received; MILTER_README.

config.py says which there are, client.py speaks with one of them, chain.py with all of them about one SMTP session,
message.py carries their wishes out on a message.
"""
