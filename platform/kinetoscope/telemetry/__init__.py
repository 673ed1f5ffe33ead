"""Prometheus metrics of running steps, and logging. Only this package knows prometheus_client."""
