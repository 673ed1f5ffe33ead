"""What spreads training over processes and devices."""
