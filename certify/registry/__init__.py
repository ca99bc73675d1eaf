"""The scheduling platform's registry: takes statements in, keeps them, rolls them up and watches (docs/registry.md).

A room of `certify` that needs the extra ``petaseal[registry]``; nothing outside it imports it at module level. What a
statement is worth is judged by `certify.verify.verifier` alone: here it is stored, dated, compared with the others
and shown.
"""
