"""A benchmark that a judge scores, and the judge."""
