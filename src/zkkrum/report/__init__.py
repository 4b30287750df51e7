"""Pages for people: one self-contained HTML file about a round or a bundle.

Must not compute a verdict: it shows those of `zkkrum.protocol.krum`.
"""
