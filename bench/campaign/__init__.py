"""A campaign at work: the folder that its nodes share, the node's part, the coordinator's part, and what people see.

Everything goes through the shared folder (docs/campaigns.md); no process keeps what another would need. Nothing in here
signs or judges, and nothing schedules: that is the business of `certify` and of the centre's own engine.
"""
