"""The client written once: `python -m tests.sdk.generate` makes the sync one of it, in `styx.sdk`.

By hand in both are only the connections: `http.client` there, asyncio's streams and h11 here.
"""
