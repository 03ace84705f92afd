"""What is kept of accounts in memory; the twin of `storage/postgres/accounts/`, file by file."""
