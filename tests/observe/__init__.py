"""Dashboards and alerts against a real Prometheus: `make dashboards-check`."""
