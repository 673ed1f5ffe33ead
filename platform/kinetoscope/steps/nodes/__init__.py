"""The supervisors of the nodes that share an attempt of a step."""
