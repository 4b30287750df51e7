"""What lies on disk before a proof: updates, round files, commitments and openings, and what the parties do with them.

Must not know circuits, proofs or tools.
"""
