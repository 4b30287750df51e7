"""What is proved and how: circuits, witnesses, bundles, proving and verifying.

Must not print, nor know learning, chains or pages.
"""
