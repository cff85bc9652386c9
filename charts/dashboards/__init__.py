"""The Grafana dashboards as code: `python -m dashboards` writes the files that the chart ships.

One module a dashboard; `parts` is what they share. Neither the operator nor the runner imports it.
"""
