"""The verification page: one file that verifies a bundle in any browser, offline.

Must not know how proofs are made. What runs in the browser is in ``web``.
"""
