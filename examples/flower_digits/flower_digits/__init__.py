"""A Flower app: digits, Byzantine clients by config, every round proved with zkkrum."""
