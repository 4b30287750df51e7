"""zkkrum: zero-knowledge proofs of the Krum verdict on committed federated-learning updates."""

__version__ = "0.1.0"
