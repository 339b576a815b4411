"""Was a model trained on a release? Tests with exact p-values against secrets that were committed before publication.

`plan` says what is committed, `probes/` holds one file for every test, `models/` one for every way to ask a model,
`run` asks and decides, `exact` has the arithmetic. Signing and the page are `release.evidence`'s.
"""
