"""The devices of an account, as its owner sees them: `owning.py` what is done, then the routes."""
