"""The requests of OpenHands' clients, version by version, and the fields that each of them reads.

The clients here are written after the published packages that each names: the same calls in the same order with the
same bodies, the same decisions on the same fields, indexed where the original indexes (a missing one is a KeyError
there too). What is left out is what a server can't see: logging, agents, how long a client waits between two looks.
"""
