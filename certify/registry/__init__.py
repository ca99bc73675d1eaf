"""The scheduling platform's registry: accepts, stores and sums statements, and watches nodes (docs/platform-guide.md).

A room of `certify` that needs the extra ``petaseal[registry]``; nothing outside it imports it at module level. What a
statement is worth is judged by `certify.verify.verifier` alone: here it is stored, dated, compared with the others
and shown.
"""
