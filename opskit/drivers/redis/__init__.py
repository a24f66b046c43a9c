"""Redis as a target: a connection of our own making, reads looked up at the server, marked changes.

It speaks through hiredis, which reads the protocol and does nothing else: no command is sent that
is not written here, nothing is repeated behind our back, and every wait can be ended.
"""
