"""Runs of the agent that outlive their request, their client and the process."""
