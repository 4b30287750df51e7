"""Rounds to try and rules to judge: attacks, training, simulation, evaluation, calibration.

Must not know chains, pages or Flower.
"""
