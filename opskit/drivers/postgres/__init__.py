"""PostgreSQL as a target: sessions of our own making, reads that can't write, changes with a mark.

It speaks through psycopg's `pq`, libpq as it is: every wait can be ended, values go beside the
statement in the server's own protocol, and no result is held in memory as a whole.
"""
