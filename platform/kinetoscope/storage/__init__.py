"""Object stores: whole objects under keys, never half of one."""
