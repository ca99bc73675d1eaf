"""The operator's report: plots and figures of a campaign or of one node's run, drawn from records and samples."""
