"""What of mail is reached over HTTP: `previews.py`, the templates for who writes them."""
