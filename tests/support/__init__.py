"""What several test files share: real rounds and bundles, adversaries, compiled circuits and contracts, vectors."""
