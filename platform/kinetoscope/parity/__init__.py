"""Checks the public API against golden sets made with the reference (Open-Sora 1.2).

``python -m kinetoscope.parity DIR`` runs every file of a set. One module per family of files; each
names the compat mode that it runs in, where the reference's behaviour is not our default.
"""
