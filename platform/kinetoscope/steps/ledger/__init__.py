"""The ledger of a step: what has happened to it, in one sequence that nobody rewrites."""
