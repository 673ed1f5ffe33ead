"""Where videos come from, and how what is read of them is known to be what was prepared."""
