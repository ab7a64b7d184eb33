"""A service around one agent: OpenAI-compatible chat, runs with approvals, MCP, a web page.

A sample over the public names of `agentflux`. Start it with `afx-serve BUNDLE --mcp servers.json`.
"""
