"""What the registry's API takes and gives, version 1: one type for the server, the client and the OpenAPI document.

Rates are integers in MFLOP/s (`certify.statement.build`); `*_pflops` beside them are the same truncated to six
decimals, as text, for people and spreadsheets. Times have the one form of documents. Public views carry counts, never
identities.
"""
