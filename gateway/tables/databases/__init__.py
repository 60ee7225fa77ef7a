"""Tables that a database answers for: sqlite, pgsql, mysql, ldap, memcache, redis.

source (where their parameters stand), template (%s %u %d … and result_format), table (what all have in common),
pool (connections, hosts, threads), and a module a kind of database.
"""
