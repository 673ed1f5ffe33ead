"""``kino doctor --on cluster``: each module examines one part of a cluster."""
