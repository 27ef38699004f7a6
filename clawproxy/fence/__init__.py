"""A fence on an agent host: what a user, a cgroup or an interface sends comes to the gateway, or is refused.

For one job, with nothing shared but files, see ``clawproxy.cage``; a fence is for agents that are there already.
"""
