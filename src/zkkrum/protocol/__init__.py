"""The protocol in code: integers only.

Must not know files, processes, a clock or hidden randomness: everything is a function of its arguments.
"""
