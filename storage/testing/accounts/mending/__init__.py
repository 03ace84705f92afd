"""Accounts that are taken back, as tests: changes that are disavowed, addresses, recoveries."""
