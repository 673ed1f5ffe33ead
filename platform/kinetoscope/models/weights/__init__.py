"""Weight files of others: reading, fitting into our models, writing."""
