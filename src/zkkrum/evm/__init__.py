"""The on-chain side of zkkrum: contracts as artefacts, their export, and a round's life on a real EVM.

Must not know the command line. Only `chain` and what builds on it need the extra ``zkkrum[evm]``.
"""
