"""The outside world, abstract: what stages may ask of it, in domain values only.

Adapters make these real, `testing/` fakes them, and one contract suite per port in
`assetgen_pipeline_tests/contracts/` holds both to the same words.
"""
