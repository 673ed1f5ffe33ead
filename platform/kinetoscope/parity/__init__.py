"""Checks the public API against golden sets made with the reference (Open-Sora 1.2).

``python -m kinetoscope.parity DIR`` runs every file of a set. `checks` has a module per family of
files; where the reference's behaviour is not ours, it is a setting, or code of `reference`.
"""
