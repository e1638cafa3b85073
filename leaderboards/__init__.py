"""What came out: records and ledger, boards, statistics, renderers. Knows records, not models."""
