"""Hands the traces that are kept to a collector of OpenTelemetry, where one is named (OBS-4).

Read `encoding.py` (the few messages of OTLP, as bytes), `waiting.py` (what waits, up to a bound),
`sending.py` (one request to the collector, behind its guards), then `exporter.py`: who does it.
"""
