"""A proxy in front of a real API server that delays, drops, repeats, refuses and lies.

Only the operator speaks through it; what is true is asked of the API server itself.
"""
